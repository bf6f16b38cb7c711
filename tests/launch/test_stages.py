"""Stages by one launch: from the first weights to the last, through a kill and a changed first."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from pipeline.launch.context import RunOrder, Schedule
from pipeline.launch.scheduler import next_trials
from pipeline.plan.read import read_sweep
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Phase, State
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow
from written_rows import row

#: Nothing is learnt at this rate, so that a stage's weights stay those it began with.
STILL = "optim_wrapper.optimizer.lr: 1.0e-9, param_scheduler: []"
VARIANTS = f"""\
  baseline: {{set: {{train_cfg.max_epochs: 2, val_evaluator.top1: [0.72, 0.71]}}}}
  fine:
    warm_start: {{best_of: baseline}}
    set: {{train_cfg.max_epochs: 1, val_evaluator.top1: [0.73], {STILL}}}
  low:
    warm_start: {{best_of: fine}}
    set: {{train_cfg.max_epochs: 1, val_evaluator.top1: [0.74], {STILL}}}
"""
LADDER = "[{complete: baseline, next: [fine]}, {complete: fine, next: [low]}]"


def weight(project, trial: str, epoch: int):
    file = project.folder(trial) / "checkpoints" / f"epoch_{epoch}.pth"
    return torch.load(file, weights_only=False)["state_dict"]["deep.weight"]


def stage(project, trial: str):
    spec = RunDir(project.folder(trial)).read_spec()
    assert spec is not None and spec.stage is not None and spec.warm_start is not None
    return spec.stage["trial"], spec.stage["epoch"], spec.warm_start["checkpoint"]


@pytest.mark.slow
def test_one_launch_runs_all_stages_and_a_changed_first_makes_the_later_old(project) -> None:
    project.sweep(VARIANTS, LADDER)
    early = project.launch("--variant", "low")
    assert early.returncode == 5 and "launch tiny --variant baseline" in early.stderr
    assert "doctor" not in early.stderr  # the machine lacks nothing

    first = project.start(*project.launch_words())
    for line in first.stdout:
        if "fine starts from baseline/0 (72.00 % at epoch 1)" in line:
            os.kill(first.pid, signal.SIGKILL)
            break
    first.communicate()
    done = project.launch()
    assert done.returncode == 0, done.stderr
    trials = project.status()
    assert {n: t["state"] for n, t in trials.items()} == dict.fromkeys(
        ("baseline/0", "fine/0", "low/0"), "COMPLETE"
    )
    taken = project.folder("baseline/0") / "checkpoints" / "epoch_1.pth"
    assert stage(project, "fine/0") == ("baseline/0", 1, str(taken))
    torch.testing.assert_close(weight(project, "fine/0", 1), weight(project, "baseline/0", 1))
    torch.testing.assert_close(weight(project, "low/0", 1), weight(project, "baseline/0", 1))
    assert not torch.equal(weight(project, "baseline/0", 1), weight(project, "baseline/0", 2))
    assert project.call("sweep", "clean", "tiny", "--yes").returncode == 0
    assert taken.is_file()

    project.sweep(VARIANTS.replace("0.72, 0.71", "0.71, 0.72"), LADDER)
    assert project.call("sweep", "register", "tiny").returncode == 0
    assert project.status()["fine/0"]["stage"]["old"]
    shown = project.call("sweep", "status", "tiny")
    assert "low/0 is old: it began with fine/0" in shown.stdout, shown.stdout
    again = project.launch()
    assert again.returncode == 0 and "fine/0 is old" in again.stderr + again.stdout
    assert stage(project, "low/1")[0] == "fine/1" and stage(project, "fine/1")[1] == 2
    old = {n for n, t in project.status().items() if (t["stage"] or {}).get("old")}
    assert old == {"fine/0", "low/0"}
    record = json.loads(project.call("sweep", "plan", "tiny", "--json").stdout)
    assert [v["starts_from"] for v in record["variants"]] == [None, "baseline", "fine"]


PLAN = """
name: s
config: c.py
objective: {metric: acc/top1}
variants:
  fine: {warm_start: {best_of: first}}
  first: {space: {lr: {low: 0.1, high: 1.0}}}
ladder: {start: first, after: [{cause: nan, next: [fine]}]}
"""
WAITS = {"state": State.WAITING, "phase": Phase.WAITING}


def wanted(folder: Path, order: RunOrder, *rows: TrialRow) -> Schedule:
    (folder / "s.yaml").write_text(PLAN)
    sweep = read_sweep(folder / "s.yaml", folder)
    recipes = Stages(sweep, rows, {"first": "h", "fine": "i"}).recipes()
    return next_trials(sweep, order, rows, recipes)


def test_all_variants_hold_a_stage_until_its_start_has_all_its_trials(tmp_path: Path) -> None:
    begun = wanted(tmp_path, RunOrder(policy="all"), row("first", 0, 0.0, **WAITS))
    assert [one.variant for one in begun.requests] == ["first"]
    assert "pcan sweep launch s --variant first" in begun.why
    one = row("first", 0, 0.7)
    two = wanted(tmp_path, RunOrder(policy="all", trials=2), one)
    assert [r.variant for r in two.requests] == ["first"]
    assert two.why == "fine waits for all trials of first"
    ended = wanted(tmp_path, RunOrder(policy="all", trials=2), one, row("first", 1, 0.8, None))
    assert [r.variant for r in ended.requests] == ["fine", "first"]


def test_the_ladder_ends_with_the_next_command_before_a_stage_without_a_start(
    tmp_path: Path,
) -> None:
    lost = row("first", 0, 0.0, state=State.FAIL, cause="nan")
    plan = wanted(tmp_path, RunOrder(), lost)
    assert [one.variant for one in plan.requests] == ["first"]
    assert plan.why.endswith("Run it first: pcan sweep launch s --variant first")
