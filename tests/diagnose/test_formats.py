"""The formats that no real log at hand shows: work dirs, resumes, rotation, JSON, CSV, tensors."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.diagnose.curve import Curve
from pipeline.diagnose.fields import metrics
from pipeline.diagnose.read_log import newest_work_dir, read_log
from pipeline.errors import InputError
from pipeline.shared.measurement import Measurement

METRIC = "acc/RGBPose_1:1_top1"
STAMP = "2026/01/02 03:04:05 - mmengine - INFO - "
MakeLog = Callable[..., str]


def top1(curve: Curve, metric: str = METRIC) -> dict[int, float]:
    return {p.epoch: p.metrics[metric] for p in curve.validated}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_tensor_after_the_validation_line_is_not_a_metric(tmp_path: Path) -> None:
    log = write(
        tmp_path / "x.log",
        f"{STAMP}Epoch(val) [3][4/4]    acc/top1: 0.8832  acc/mean1: 0.8801  confusion_matrix/"
        "result: \ntensor([[5, 0.1],\n        [1, 7]])\n  data_time: 0.0471  time: 0.1819\n",
    )
    (point,) = read_log(log).validated
    assert point.metrics == {"acc/top1": 0.8832, "acc/mean1": 0.8801}


def test_validation_progress_and_tests_are_not_results(tmp_path: Path) -> None:
    log = write(
        tmp_path / "x.log",
        f"{STAMP}Epoch(val) [3][20/40]    eta: 0:00:26  time: 0.2464  val/loss: 9.9000\n"
        f"{STAMP}Epoch(val) [3][40/40]    acc/top1: 0.8832  data_time: 0.0471  time: 0.1819\n"
        f"{STAMP}Epoch(test) [40/40]    acc/top1: 0.1111  data_time: 0.0471  time: 0.1819\n",
    )
    assert top1(read_log(log), "acc/top1") == {3: 0.8832}


def test_a_last_line_without_its_newline_may_be_cut(tmp_path: Path, mmengine_log: MakeLog) -> None:
    line = f"{STAMP}Epoch(val) [3][4/4]    acc/rgb_top1: 0.8100  {METRIC}: 0.88"
    log = write(tmp_path / "x.log", mmengine_log([0.87, 0.88]) + line)
    assert {p.epoch: dict(p.metrics) for p in read_log(log).validated}[3] == {"acc/rgb_top1": 0.81}


def test_a_validation_before_training_is_epoch_0(tmp_path: Path, mmengine_log: MakeLog) -> None:
    first = f"{STAMP}Epoch(val) [0][4/4]    {METRIC}: 0.8919  data_time: 0.0471  time: 0.1819\n"
    log = write(tmp_path / "x.log", first + mmengine_log([0.88], config=""))
    assert top1(read_log(log)) == {0: 0.8919, 1: 0.88}


def test_a_work_dir_gives_its_newest_run(tmp_path: Path, mmengine_log: MakeLog) -> None:
    for time, values in (("20260101_000000", [0.1, 0.2, 0.3]), ("20260102_000000", [0.5])):
        write(tmp_path / time / f"{time}.log", mmengine_log(values))
    curve = read_log(tmp_path)
    assert top1(curve) == {1: 0.5}
    assert "1 earlier run that the newest does not continue is left out" in curve.notes


def test_resumed_runs_are_joined(tmp_path: Path, mmengine_log: MakeLog) -> None:
    """Three starts: epoch 3 of the first and 5 of the second were lost and done again."""
    resumed = "{0}Load checkpoint from epoch_{1}.pth\n{0}resumed epoch: {1}, iter: {1}00\n"
    header = f"{STAMP}Config:\ntrain_cfg = dict(max_epochs=24)\n"
    starts = {
        "20260101_000000": mmengine_log([0.1, 0.2, 0.31]),
        "20260102_000000": header
        + resumed.format(STAMP, 2)
        + mmengine_log([0.3, 0.4, 0.51], config="", first=3),
        "20260103_000000": header
        + resumed.format(STAMP, 4)
        + mmengine_log([0.5, 0.6], config="", first=5),
    }
    for time, text in starts.items():
        write(tmp_path / time / f"{time}.log", text)
    curve = read_log(tmp_path)
    assert top1(curve) == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5, 6: 0.6}
    assert "3 runs joined across resumes" in curve.notes
    assert curve.facts.load_from == "work_dirs/epoch_26.pth"


def test_how_an_earlier_run_ended_does_not_count_for_the_run_that_continued_it(
    tmp_path: Path, mmengine_log: MakeLog
) -> None:
    stop = f"{STAMP}the monitored metric did not improve in the last 10 records. best score: 0.1\n"
    crash = "Traceback (most recent call last):\nRuntimeError: x\n"
    write(tmp_path / "20260101_000000.log", mmengine_log([0.1, 0.2]) + stop + crash)
    header = f"{STAMP}Config:\nresume = True\n{STAMP}resumed epoch: 2, iter: 200\n"
    later = mmengine_log([0.3], config="", first=3)
    write(tmp_path / "20260102_000000.log", header + later)
    curve = read_log(tmp_path)
    assert top1(curve) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert (curve.facts.stop_message, curve.facts.traceback) == (None, None)
    assert curve.facts.max_epochs == 24


def test_resumed_runs_in_one_file_are_joined(tmp_path: Path, mmengine_log: MakeLog) -> None:
    second = f"{STAMP}Config:\nresume = True\n{STAMP}resumed epoch: 1, iter: 100\n"
    text = mmengine_log([0.1, 0.9]) + second + mmengine_log([0.2], config="", first=2)
    assert top1(read_log(write(tmp_path / "nohup.log", text))) == {1: 0.1, 2: 0.2}


def test_the_exact_values_of_scalars_are_preferred(tmp_path: Path, mmengine_log: MakeLog) -> None:
    run = tmp_path / "20260101_000000"
    write(run / "20260101_000000.log", mmengine_log([0.88, 0.89]))
    rows = [
        {"lr": 0.003, "loss": 1.0, "epoch": 1, "iter": 9, "step": 9},
        {METRIC: 0.8799951, "time": 0.2, "step": 1},
        {METRIC: 0.8900012, "time": 0.2, "step": 2},
    ]
    write(run / "vis_data" / "scalars.json", "".join(json.dumps(row) + "\n" for row in rows))
    curve = read_log(tmp_path)
    assert top1(curve) == {1: 0.8799951, 2: 0.8900012}
    assert curve.facts.max_epochs == 24
    assert curve.path.endswith("scalars.json")


def test_rotated_pieces_are_read_as_one(tmp_path: Path, mmengine_log: MakeLog) -> None:
    lines = mmengine_log([0.1, 0.2, 0.3, 0.4]).splitlines(keepends=True)
    third = len(lines) // 3
    (tmp_path / "x.log.2.gz").write_bytes(gzip.compress("".join(lines[:third]).encode()))
    write(tmp_path / "x.log.1", "".join(lines[third : 2 * third]))
    log = write(tmp_path / "x.log", "".join(lines[2 * third :]))
    curve = read_log(log)
    assert top1(curve) == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    assert curve.facts.max_epochs == 24


def test_the_json_log_of_mmcv_is_read(tmp_path: Path) -> None:
    rows = [
        {"env_info": "..", "seed": 1},
        {"mode": "train", "epoch": 1, "iter": 50, "lr": 0.05, "loss": 1.5, "top1_acc": 0.3},
        {"mode": "train", "epoch": 1, "iter": 100, "lr": 0.04, "loss": 0.5, "top1_acc": 0.6},
        {"mode": "val", "epoch": 1, "iter": 26, "lr": 0.04, "top1_acc": 0.9867},
    ]
    log = write(tmp_path / "a.log.json", "".join(json.dumps(row) + "\n" for row in rows))
    curve = read_log(log)
    assert top1(curve, "top1_acc") == {1: 0.9867}
    assert (curve.points[0].lr, curve.points[0].lr_end, curve.points[0].loss) == (0.05, 0.04, 1.0)


def test_our_own_measurements_are_read_and_the_first_of_an_epoch_counts(tmp_path: Path) -> None:
    measured = [
        Measurement(epoch=0, top1=0.8919),
        Measurement(epoch=1, top1=0.886, lr=0.003, rgb_top1=0.88, pose_top1=0.82, loss=2.1),
        Measurement(epoch=1, top1=0.1, attempt=2),
    ]
    text = "".join(m.to_line() for m in measured) + '{"epoch": 2, "top1": 0.88'
    curve = read_log(write(tmp_path / "measurements.jsonl", text))
    assert top1(curve, "top1") == {0: 0.8919, 1: 0.886}
    assert curve.points[1].metrics == {"top1": 0.886, "rgb_top1": 0.88, "pose_top1": 0.82}


def test_a_trial_knows_its_plan_and_how_it_ended(tmp_path: Path) -> None:
    warm = {"checkpoint": "w.pth", "expect": 0.8919}
    write(tmp_path / "spec.json", json.dumps({"epochs": 30, "warm_start": warm}))
    write(tmp_path / "outcome.json", json.dumps({"cause": "gate", "reason": "under the floor"}))
    write(tmp_path / "measurements.jsonl", Measurement(epoch=1, top1=0.87).to_line())
    facts = read_log(tmp_path).facts
    assert (facts.max_epochs, facts.start_top1, facts.load_from) == (30, 0.8919, "w.pth")
    assert facts.stop_cause == "gate: under the floor"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch,top1\n1,0.88\n2,0.89\n", {1: 0.88, 2: 0.89}),
        ("Epoch;Top1;lr\n1;0.88;0.003\n", {1: 0.88}),
        ("# a comment\nepoch\ttop1\n1\t0.88\n", {1: 0.88}),
        ("epoch,top1\n1,0.88\nx,0.9\n3\n2,0.89\n", {1: 0.88, 2: 0.89}),
        ("epoch,top1\n1,0.88\n2,0.8", {1: 0.88}),
        ('"epoch","top1"\r\n1,0.88\r\n', {1: 0.88}),
    ],
)
def test_a_csv_is_read(tmp_path: Path, text: str, expected: dict[int, float]) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    assert top1(read_log(path), "top1") == expected


def test_a_csv_without_its_header_is_refused(tmp_path: Path) -> None:
    """Cut inside a row, "10,0.8832" would become epoch 0 with 0.8832."""
    with pytest.raises(InputError, match="epoch,top1"):
        read_log(write(tmp_path / "x.csv", "0,0.8832\n11,0.89\n"))


@pytest.mark.parametrize(
    ("header", "row", "percent"),
    [
        ("acc/top1", ["0.6284", "0.7100"], False),
        ("acc/top1", ["62.84", "71.00"], True),
        ("accuracy/top1", ["0.84", "0.91"], True),
        ("accuracy_top-1", ["62.84", "71.00"], True),
    ],
)
def test_fractions_and_percent(tmp_path: Path, header: str, row: list[str], percent: bool) -> None:
    from pipeline.diagnose.series import series

    text = f"epoch,{header}\n" + "".join(f"{i},{v}\n" for i, v in enumerate(row, 1))
    found = series(read_log(write(tmp_path / "x.csv", text)), header)
    assert found.percent is percent
    expected = [float(v) / (100 if percent else 1) for v in row]
    assert list(found.values) == pytest.approx(expected)


def test_one_damaged_value_does_not_turn_fractions_into_percent(tmp_path: Path) -> None:
    from pipeline.diagnose.series import series

    log = write(tmp_path / "x.csv", "epoch,top1\n1,0.88\n2,88.0\n3,0.89\n")
    found = series(read_log(log), "top1")
    assert [p.epoch for p in found.points] == [1, 3] and not found.percent
    assert "epoch 2 (line 3): top1 is 88, not an accuracy" in found.notes[0]


def test_the_newest_log_is_found_by_itself(tmp_path: Path, mmengine_log: MakeLog) -> None:
    import os

    for i, name in enumerate(("old", "new")):
        time = f"2026010{i + 1}_000000"
        log = write(tmp_path / name / time / f"{time}.log", mmengine_log([0.5]))
        os.utime(log, (1_000_000 + i, 1_000_000 + i))
    assert newest_work_dir(tmp_path) == tmp_path / "new"


def test_a_trials_own_other_logs_are_not_taken_for_it(tmp_path: Path) -> None:
    import os

    trial = tmp_path / "runs" / "s" / "baseline" / "0"
    write(trial / "measurements.jsonl", Measurement(epoch=1, top1=0.87).to_line())
    debug = write(trial / "wandb" / "run-1" / "logs" / "debug.log", "2026-01-01 INFO x\n")
    os.utime(debug, (2_000_000_000, 2_000_000_000))
    assert newest_work_dir(tmp_path / "runs") == trial


def test_the_clips_that_a_trial_recorded_are_known(tmp_path: Path) -> None:
    from pipeline.diagnose.trial import known_clips

    assert known_clips(tmp_path / "runs", "s") is None
    write(tmp_path / "runs" / "s" / "baseline" / "0" / "facts.json", '{"val_clips": 16487}')
    assert known_clips(tmp_path / "runs", "s") == 16487


@pytest.mark.parametrize(
    ("cause", "finding"), [("nan", "nan_loss"), ("lost_worker", "incomplete")]
)
def test_a_failed_trial_shows_its_cause(tmp_path: Path, cause: str, finding: str) -> None:
    from pipeline.diagnose.log_case import make_case
    from pipeline.diagnose.runner import examine

    write(tmp_path / "spec.json", '{"epochs": 30}')
    outcome = {"state": "FAIL", "cause": cause, "reason": "rank 1 failed"}
    write(tmp_path / "outcome.json", json.dumps(outcome))
    write(tmp_path / "measurements.jsonl", Measurement(epoch=1, top1=0.87).to_line())
    (found,) = examine(make_case(read_log(tmp_path)))
    assert (found.id, found.severity) == (finding, "error")
    assert f"{cause}: rank 1 failed" in found.evidence


def test_a_config_in_the_log_is_never_executed(tmp_path: Path, mmengine_log: MakeLog) -> None:
    canary = tmp_path / "canary"
    evil = (
        f"load_from = __import__('os').system('touch {canary}')\ntrain_cfg = dict(max_epochs=9)\n"
    )
    log = write(tmp_path / "x.log", mmengine_log([0.5], config=evil))
    facts = read_log(log).facts
    assert (facts.max_epochs, facts.load_from, canary.exists()) == (9, None, False)


@pytest.mark.parametrize("prefix", ["acc/", "精度/", "точность/", "_"])
def test_a_metric_may_have_a_name_in_any_alphabet(prefix: str) -> None:
    line = f"    {prefix}RGBPose_1:1_top1: 0.8832  {prefix}rgb_top1: 0.8712  time: 0.1000\n"
    found = metrics(line.encode(), True)
    assert found == {f"{prefix}RGBPose_1:1_top1": 0.8832, f"{prefix}rgb_top1": 0.8712}
    assert metrics(b"    1/x: 0.8832  time: 0.1000\n", True) == {}
