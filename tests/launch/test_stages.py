"""Stages by one launch: from the first weights to the last, through a kill and a changed first."""

import json
import os
import signal

import pytest
import torch

from pipeline.shared.rundir import RunDir

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
    assert project.run("sweep", "clean", "tiny", "--yes").returncode == 0
    assert taken.is_file()

    project.sweep(VARIANTS.replace("0.72, 0.71", "0.71, 0.72"), LADDER)
    assert project.run("sweep", "register", "tiny").returncode == 0
    assert project.status()["fine/0"]["stage"]["old"]
    shown = project.run("sweep", "status", "tiny")
    assert "low/0 is old: it began with fine/0" in shown.stdout, shown.stdout
    again = project.launch()
    assert again.returncode == 0 and "fine/0 is old" in again.stderr + again.stdout
    assert stage(project, "low/1")[0] == "fine/1" and stage(project, "fine/1")[1] == 2
    old = {n for n, t in project.status().items() if (t["stage"] or {}).get("old")}
    assert old == {"fine/0", "low/0"}
    record = json.loads(project.run("sweep", "plan", "tiny", "--json").stdout)
    assert [v["starts_from"] for v in record["variants"]] == [None, "baseline", "fine"]
