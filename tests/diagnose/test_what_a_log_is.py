"""Logs without an epoch, with several metrics or rates, or counted in iterations: said as such."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import diagnose, gates_commands, log
from pipeline.diagnose.epoch_table import epoch_rows, text
from pipeline.diagnose.log_case import Finding, LogCase, make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import diagnosis_text, examine
from pipeline.errors import InputError

MakeLog = Callable[..., str]
STAMP = "2026/01/02 03:04:05 - mmengine - INFO - "
CONFIG = f"{STAMP}Config:\ntrain_cfg = dict(max_epochs=45)\n"


def case_of(path: Path, content: str) -> LogCase:
    path.write_text(content)
    return make_case(read_log(path))


def the_finding(path: Path, content: str) -> Finding:
    (only,) = examine(case_of(path, content))
    return only


def test_a_finished_test_is_not_an_incomplete_training(tmp_path: Path) -> None:
    lines = f"{STAMP}Epoch(test) [50/52]  eta: 0:00:01\n{STAMP}Epoch(test) [52/52]  acc/top1: "
    only = the_finding(tmp_path / "x.log", f"{CONFIG}{lines}0.7700  time: 0.1000\n")
    assert (only.id, only.severity) == ("no_validation", "note")
    assert "finished test" in only.evidence and "acc/top1 0.77" in only.evidence


def test_a_test_that_still_runs_shows_how_far_it_is(tmp_path: Path) -> None:
    only = the_finding(tmp_path / "x.log", f"{CONFIG}{STAMP}Epoch(test) [20/52]  eta: 0:00:09\n")
    assert "20 of 52 batches" in only.evidence


def test_the_result_file_of_a_test_is_read(tmp_path: Path) -> None:
    only = the_finding(tmp_path / "x.json", '{"acc/top1": 0.77, "acc/top5": 0.9}\n')
    assert "finished test" in only.evidence


@pytest.mark.parametrize("config", ["", "total_epochs = 16\n"])
def test_a_json_log_with_only_its_header_never_began(tmp_path: Path, config: str) -> None:
    header = json.dumps({"env_info": "x", "config": config, "seed": 1, "exp_name": "x.py"})
    only = the_finding(tmp_path / "x.log.json", f"{header}\n")
    assert "the run never began" in only.evidence and "val_interval" not in only.remedy


def test_a_run_that_failed_before_its_first_epoch_names_the_error(tmp_path: Path) -> None:
    crash = "Traceback (most recent call last):\nFileNotFoundError: x.pkl\n"
    found = {f.id: f for f in examine(case_of(tmp_path / "x.log", CONFIG + crash))}
    assert "before its first epoch" in found["incomplete"].evidence
    assert "resume" not in found["incomplete"].remedy
    assert found["no_validation"].severity == "note"


@pytest.mark.parametrize(
    "content",
    [
        f"{CONFIG}{STAMP}Iter(train) [  50/10000]  lr: 1.0e-02  loss: 0.5\n",
        f"{STAMP}Iter(val) [100/100]  acc/top1: 0.5000  time: 0.1\n",
        '{"lr": 0.01, "loss": 0.5, "iter": 50, "step": 50}\n{"acc/top1": 0.5, "step": 1000}\n',
        "".join(f'{{"acc/top1": 0.{i}, "step": {i * 500}}}\n' for i in range(1, 6)),
    ],
)
def test_iterations_are_never_called_epochs(tmp_path: Path, content: str) -> None:
    case = case_of(tmp_path / "x.json", content)
    assert "it counts iterations, not epochs" in examine(case)[0].evidence
    assert "in iterations, not epochs" in diagnosis_text(case, [])


def test_validations_numbered_by_iteration_belong_to_the_epoch_before(tmp_path: Path) -> None:
    rows = []
    for epoch in (1, 2, 3):
        step = 318 * epoch
        rows += [{"lr": 0.01, "loss": 1.0, "epoch": epoch, "iter": step, "step": step}]
        rows += [{"acc/top1": 0.1 * epoch, "step": step}]
    case = case_of(tmp_path / "x.json", "".join(json.dumps(row) + "\n" for row in rows))
    assert [point.epoch for point, _ in case.values] == [1, 2, 3]


def test_a_log_with_two_top1_metrics_says_which_was_taken(
    tmp_path: Path, mmengine_log: MakeLog
) -> None:
    (tmp_path / "x.log").write_text(mmengine_log([0.5, 0.6], more={"acc/rgb_top1": [0.4, 0.5]}))
    said = "top-1 is acc/RGBPose_1:1_top1; the log also has acc/rgb_top1 (--metric NAME)"
    for command in (diagnose.command, log.command):
        assert said in CliRunner().invoke(command, [str(tmp_path / "x.log")]).stdout
    asked = ["--metric", "acc/rgb_top1"]
    assert said not in CliRunner().invoke(log.command, [str(tmp_path / "x.log"), *asked]).stdout


@pytest.mark.parametrize("other", ["4.0000e-03", "1.0000e-02"])
def test_a_log_with_base_lr_says_which_rate_is_shown(
    tmp_path: Path, mmengine_log: MakeLog, other: str
) -> None:
    content = mmengine_log([0.5, 0.6], lr=lambda e: 0.01)
    case = case_of(
        tmp_path / "x.log", content.replace("lr: 1", f"base_lr: 1.0e-02 lr: {other} ", 1)
    )
    (note,) = [note for note in case.curve.notes if "base_lr" in note]
    assert ("not its lr (of the first parameter group): 0.01 and 0.004" in note) == (
        other[0] == "4"
    )


def test_nan_stands_in_the_table_of_epochs(tmp_path: Path, mmengine_log: MakeLog) -> None:
    content = mmengine_log([0.5, 0.6, float("nan")], loss=lambda e: float("nan") if e == 2 else 1)
    rows = epoch_rows(case_of(tmp_path / "x.log", content))
    assert [row.non_finite for row in rows] == [(), ("loss",), ("top1",)]
    assert [line.split()[2] for line in text(rows).splitlines()[1:]] == ["1.0000", "nan", "1.0000"]
    assert text(rows).splitlines()[3].endswith("nan")


def test_one_unreadable_log_loses_none_of_the_others(tmp_path: Path, project: Path) -> None:
    (tmp_path / "bad.log").write_bytes(b"\0\1\2")
    (tmp_path / "good.csv").write_text("epoch,top1\n1,0.9\n")
    logs = [str(tmp_path / name) for name in ("bad.log", "none.log", "good.csv")]
    replay = ["replay", "pcan_ntu60"]
    for command, first in ((diagnose.command, []), (gates_commands.command, replay)):
        plain = CliRunner().invoke(command, [*first, *logs])
        assert plain.exit_code == 2 and "good.csv" in plain.stdout
        assert "binary file" in plain.stderr and "There is no log" in plain.stderr
        entries = json.loads(CliRunner().invoke(command, [*first, *logs, "--json"]).stdout)
        assert ["error" in entry for entry in entries] == [True, True, False]


def test_the_only_log_that_cannot_be_read_is_an_error_of_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(diagnose.command, [str(tmp_path / "none.log")])
    assert isinstance(result.exception, InputError) and not result.stdout


def test_the_setup_of_the_checkpoint_a_run_resumed_from_is_not_its_own(tmp_path: Path) -> None:
    config = "model = dict(cls_head=dict(num_classes=400))\ntotal_epochs = 100\n"
    rows = [{"mmaction_version": "1.0", "config": config, "epoch": 95, "iter": 89300}]
    rows += [{"mode": "val", "epoch": epoch, "iter": 9, "top1_acc": 0.02} for epoch in (96, 97)]
    case = case_of(tmp_path / "x.json", "".join(json.dumps(row) + "\n" for row in rows))
    assert case.curve.facts.resumed_epoch == 95
    assert case.curve.facts.num_classes is None and case.planned is None


def test_stamps_without_a_year_are_read(tmp_path: Path, mmengine_log: MakeLog) -> None:
    content = mmengine_log([0.5, 0.6, 0.7], loss=lambda e: 0.5).replace("2026/01/02", "01/02")
    case = case_of(tmp_path / "x.log", content)
    assert [value for _, value in case.values] == [0.5, 0.6, 0.7] and case.planned == 24


@pytest.mark.parametrize(
    "lines",
    [
        "2026-01-02 03:04:05,678 - INFO - Epoch 1/35, Train Loss: 1.6279, Test Acc: 59.86%\n",
        "2026-01-02 03:04:05 | INFO | Config:\n2026-01-02 03:04:05 | INFO | [Epoch 01/240] | LR\n",
        "epoch 3: loss 0.4 acc 0.8\n",
    ],
)
def test_the_epochs_of_another_program_are_not_a_run_that_never_began(
    tmp_path: Path, lines: str
) -> None:
    with pytest.raises(InputError, match=r"log of another program.*line [12]: .*poch \d"):
        case_of(tmp_path / "x.log", lines)


def test_stamps_without_any_training_are_no_training_log(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a training log that pcan knows"):
        case_of(tmp_path / "x.log", "2026-01-02 03:04:05,678 - INFO - Training SVM (Linear)...\n")


def test_a_run_that_never_began_stays_one_whatever_its_hooks_say_of_epochs(tmp_path: Path) -> None:
    only = the_finding(tmp_path / "x.log", f"{CONFIG}{STAMP}epoch 1 begins\n")
    assert "the run never began" in only.evidence


def old_training(epochs: int, config: str = "", loss: float = 1.79) -> str:
    old = "2026-01-02 03:04:05,678 - pyskl - INFO - "
    lines = [f"{old}Config: {config}total_epochs = 24"]
    lines += [
        f"{old}Epoch [{e}][20/30]\tlr: 1.0e-01, top1_acc: 0.1250, loss: {loss:.4f}, time: 0.3650"
        for e in range(1, epochs + 1)
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("epochs", "config", "remedy"),
    [
        (24, "evaluation = dict(interval=1)\n", "train.py --validate"),
        (1, "evaluation = dict(interval=1)\n", "Nothing, if it still runs"),
        (24, "evaluation = dict(interval=50)\n", "Nothing, if it still runs"),
        (24, "", "set train_cfg.val_interval"),
    ],
)
def test_the_remedy_for_no_validation_fits_the_configuration(
    tmp_path: Path, epochs: int, config: str, remedy: str
) -> None:
    found = {f.id: f for f in examine(case_of(tmp_path / "x.log", old_training(epochs, config)))}
    assert remedy in found["no_validation"].remedy


def test_a_training_that_learned_nothing_shows_without_any_validation(tmp_path: Path) -> None:
    model = "model = dict(cls_head=dict(num_classes=6))\n"
    found = {f.id: f for f in examine(case_of(tmp_path / "x.log", old_training(24, model)))}
    assert "guessing among 6 classes gives 16.67 %" in found["never_learned"].evidence
    for log_text in (old_training(24, model, loss=0.9), old_training(4, model), old_training(24)):
        ids = {f.id for f in examine(case_of(tmp_path / "x.log", log_text))}
        assert "never_learned" not in ids


def test_the_gpus_of_an_old_configuration_count(tmp_path: Path) -> None:
    config = "data = dict(samples_per_gpu=16)\ngpu_ids = range(0, 4)\n"
    rows = [{"env_info": "x", "config": config}]
    rows += [{"mode": "val", "epoch": e, "iter": 157, "accuracy_top-1": 80.0 + e} for e in (1, 2)]
    case = case_of(tmp_path / "x.log.json", "".join(json.dumps(row) + "\n" for row in rows))
    assert case.series is not None and case.series.clips == 157 * 16 * 4
