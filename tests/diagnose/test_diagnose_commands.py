"""`pcan diagnose`, `pcan log` and `pcan gates` as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipeline.cli import diagnose, gates_commands, log
from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.rules.conform import conformance
from pipeline.diagnose.runner import examine
from pipeline.errors import InputError
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement

MakeLog = Callable[..., str]


def run(command: click.Command, *args: object) -> Result:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_diagnose_json_has_the_agreed_words(failed_run: Path) -> None:
    (entry,) = json.loads(run(diagnose.command, failed_run, "--json").stdout)
    assert entry["schema"] == 1
    assert (entry["format"], entry["epochs"]) == ("MMEngine text log", 11)
    assert (entry["best_epoch"], entry["best_top1"]) == (1, 0.8832)
    assert {"id", "severity", "epoch", "evidence", "remedy"} == set(entry["findings"][0])


def test_diagnose_separates_several_logs(tmp_path: Path, mmengine_log: MakeLog) -> None:
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text(mmengine_log([0.5, 0.6]))
    out = run(diagnose.command, tmp_path / "a.log", tmp_path / "b.log").stdout
    assert "a.log (MMEngine text log): 2 of 24 epochs, best" in out
    assert "b.log" in out and "NOTE incomplete: the log ends in epoch 2 of 24" in out


def test_diagnose_without_a_log_shows_what_to_give() -> None:
    result = CliRunner().invoke(diagnose.command, [])
    assert result.exit_code == 2 and "Give logs, or a trial" in result.output


def test_diagnose_compares_a_trial_with_its_plan(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule is asked of the trial's own config; here it is given."""
    asked = []
    monkeypatch.setattr(
        "pipeline.preflight.plan_facts.schedules",
        lambda sweep, project, configs: (asked.append(configs), ({"baseline": [0.003] * 30}, ()))[
            1
        ],
    )
    folder = project / "runs" / "pcan_ntu60" / "baseline" / "0"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text('{"epochs": 30}')
    (folder / "config.py").write_text("train_cfg = dict(max_epochs=30)\n")
    measured = [
        Measurement(epoch=1, top1=0.8832, lr=0.003),
        Measurement(epoch=2, top1=0.88, lr=0.1),
    ]
    (folder / "measurements.jsonl").write_text("".join(m.to_line() for m in measured))
    (entry,) = json.loads(run(diagnose.command, "--trial", "baseline/0", "--json").stdout)
    found = {finding["id"]: finding for finding in entry["findings"]}
    assert asked[0]["baseline"].text.startswith("train_cfg")
    assert "1 of 2 logged rates" in found["off_schedule"]["evidence"]
    assert "88.32 %, expected 88.50 %-89.50 %" in found["below_band"]["evidence"]


def test_values_below_and_above_the_band_are_two_findings(plan: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = {1: 0.88, 5: 0.93, 10: 0.88}
    path.write_text("epoch,top1\n" + "".join(f"{e},{v}\n" for e, v in rows.items()))
    rules = conformance(plan.variants["baseline"], None)
    found = {f.id: f.evidence for f in examine(make_case(read_log(path)), rules)}
    assert "epoch 5" not in found["below_band"] and "epoch 10" in found["below_band"]
    assert found["above_band"].startswith("epoch 5: 93.00 %")


@pytest.mark.parametrize("trial", ["baseline", "baseline/x", "baseline/7", "../../x/0"])
def test_an_unknown_trial_is_refused(project: Path, trial: str) -> None:
    with pytest.raises(InputError, match=r"VARIANT/NUMBER|no trial"):
        run(diagnose.command, "--trial", trial)


def test_log_shows_lr_accuracies_best_and_verdicts(failed_run: Path, project: Path) -> None:
    out = run(log.command, failed_run.parent, "--plan", "pcan_ntu60").stdout
    lines = out.splitlines()
    assert lines[1].split() == ["epoch", "lr", "loss", "top-1"]
    assert lines[2].split()[:5] == ["1", "0.001", "1.0000", "88.32", "%"]
    assert "best" in lines[2] and "watch: epoch 1: top-1 88.32 % is under the target" in lines[2]
    assert "prune: epoch 5: no epoch since 1 reached 88.37 %" in lines[6]
    assert "*" in out.splitlines()[-2]


def test_log_json(tmp_path: Path, mmengine_log: MakeLog) -> None:
    (tmp_path / "x.log").write_text(
        mmengine_log([0.5, 0.6], more={"acc/rgb_top1": [0.4, 0.5], "acc/pose_top1": [0.3, 0.4]})
    )
    record = json.loads(run(log.command, tmp_path, "--json").stdout)
    assert (record["schema"], record["best_epoch"], record["best_top1"]) == (1, 2, 0.6)
    second = record["epochs"][1]
    assert (second["top1"], second["rgb_top1"], second["pose_top1"]) == (0.6, 0.5, 0.4)
    assert (second["epoch"], second["best"], second["lr"]) == (2, True, 0.0028)


def test_log_shows_the_verdicts_a_trial_was_given(tmp_path: Path) -> None:
    (tmp_path / "measurements.jsonl").write_text(Measurement(epoch=1, top1=0.87).to_line())
    verdict = {"epoch": 1, "top1": 0.87, "verdict": "prune", "reason": "epoch 1: under the floor"}
    (tmp_path / "verdicts.jsonl").write_text(json.dumps(verdict) + "\n{torn")
    assert "prune: epoch 1: under the floor" in run(log.command, tmp_path).stdout


def test_log_without_a_work_dir_shows_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="pcan log WORKDIR"):
        run(log.command)


def test_log_follow_shows_new_epochs_until_interrupted(
    tmp_path: Path, mmengine_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.log"
    path.write_text(mmengine_log([0.5]))
    looks = iter([[0.5, 0.6], None])

    def sleep(seconds: float) -> None:
        values = next(looks)
        if values is None:
            raise KeyboardInterrupt
        path.write_text(mmengine_log(values))

    monkeypatch.setattr("time.sleep", sleep)
    result = CliRunner().invoke(log.command, [str(path), "--follow"])
    rows = [line for line in result.stdout.splitlines() if line.strip()]
    assert [row.split()[0] for row in rows if row.split()[0].isdigit()] == ["1", "2"]


def test_replay_json_has_the_agreed_words(project: Path, failed_run: Path) -> None:
    (entry,) = json.loads(
        run(gates_commands.command, "replay", "pcan_ntu60", failed_run, "--json").stdout
    )
    assert (entry["stopped_epoch"], entry["stopped_by"]) == (5, "gate")
    assert (entry["epochs_logged"], entry["epochs_saved"], entry["gpu_hours_saved"]) == (
        11,
        6,
        3.0,
    )
    words = {"epoch", "top1", "verdict", "rule", "threshold", "reason", "next"}
    assert words <= set(entry["verdicts"][0])
    assert [v["verdict"] for v in entry["verdicts"]] == ["watch", "go", "go", "go", "prune"]


def test_replay_shows_what_would_have_run_next(project: Path, failed_run: Path) -> None:
    out = run(gates_commands.command, "replay", "pcan_ntu60", failed_run).stdout
    assert out.splitlines()[-1].strip() == (
        "Stopped at epoch 5 by gate: 6 of 11 epochs saved, 3 GPU hours. Next: pose-1.5 (plan A)."
    )


def test_replay_of_a_log_in_percent_under_another_best_known(
    project: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    rows = [88.6, 88.7, 88.8, 88.9, 89.0, 88, 88, 88, 88, 88.5]
    path.write_text("epoch,acc\n" + "".join(f"{i},{v}\n" for i, v in enumerate(rows, 1)))
    args = ("replay", "pcan_ntu60", path, "--metric", "acc", "--json")
    (strict,) = json.loads(run(gates_commands.command, *args).stdout)
    (loose,) = json.loads(run(gates_commands.command, *args, "--best-known", 0.88).stdout)
    assert (strict["stopped_epoch"], strict["next"]) == (10, "pose-1.5")
    assert loose["stopped_epoch"] is None
    assert "in percent" in " ".join(loose["notes"])


def test_replay_within_the_error_of_the_validation_set_says_so(
    project: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("epoch,top1\n1,0.8799\n")
    out = run(gates_commands.command, "replay", "pcan_ntu60", path, "--clips", 16487).stdout
    assert "within two standard errors: -0.01 points, standard error 0.25 % of 16487" in out


def test_replay_lists_the_metrics_of_a_log(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("epoch,val_loss,mAP\n1,0.7,0.8\n")
    named = "has no top-1; its validations have: val_loss, mAP. Name the .*: --metric mAP$"
    with pytest.raises(InputError, match=named):
        run(gates_commands.command, "replay", "pcan_ntu60", path)
    path.write_text("epoch,val_loss\n1,0.7\n")
    with pytest.raises(InputError, match="a loss or an error is not judged.*--metric NAME$"):
        run(gates_commands.command, "replay", "pcan_ntu60", path)


def test_replay_of_one_epoch_is_worded_for_one(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("epoch,top1\n1,0.95\n")
    out = run(gates_commands.command, "replay", "pcan_ntu60", path).stdout
    assert "Not stopped: the only epoch would have run." in out


def test_lint_of_the_shipped_plan_is_clean_but_for_what_readings_resolve(
    project: Path, plan: Sweep
) -> None:
    result = run(gates_commands.command, "lint", "pcan_ntu60", "--offline")
    assert result.exit_code == 0
    assert "0 open, 8 resolved by a reading" in result.stdout.splitlines()[0]


def test_lint_ends_with_2_if_a_rule_cannot_work(project: Path) -> None:
    file = project / "sweeps" / "pcan_ntu60.yaml"
    file.write_text(
        file.read_text().replace("floor: 0.88, target: 0.885", "floor: 0.89, target: 0.88")
    )
    result = run(gates_commands.command, "lint", "pcan_ntu60", "--offline", "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 2
    broken = next(f for f in record["lint"] if f["id"] == "floor_above_target")
    assert (broken["severity"], broken["resolved"]) == ("error", False)
    assert broken["where"] == "sweeps/pcan_ntu60.yaml:36"
