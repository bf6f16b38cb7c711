"""A recipe that failed for a cause outside of it is run again once that is repaired."""

import os
import warnings

import pytest
import torch

from pipeline.plan.ladder import VariantOutcome, walk
from pipeline.plan.read import read_sweep
from pipeline.shared.states import Cause, is_repairable

SHORT = "train_cfg.max_epochs: 1, val_evaluator.top1: [0.7]"
BASELINE = f"  baseline: {{set: {{{SHORT}}}}}\n"
BROKEN = "    def __len__(self):\n        raise RuntimeError('broken')\n"
COMMAND = "pcan sweep launch tiny --variant baseline"


def test_a_failed_recipe_is_run_again_by_name_or_once_its_code_has_changed(project) -> None:
    """Its code is broken, then as it was right; `--variant` runs it again in any case."""
    project.ranks = 1
    project.sweep(BASELINE)
    file = project.root / "jobs" / "tiny_parts.py"
    right = file.read_text()
    file.write_text(right.replace("    def __len__(self):\n", BROKEN, 1))
    done = project.launch()
    assert done.returncode == 3 and "baseline/0 failed" in done.stderr, done.stderr
    names_the_command(project)

    named = project.launch("--variant", "baseline")
    assert named.returncode == 3 and "run again as baseline/1: as named" in named.stderr
    file.write_text(right)
    done = project.launch()
    assert done.returncode == 0, done.stderr
    assert "run again as baseline/2: jobs/tiny_parts.py has changed since" in done.stderr
    trials = project.status()
    assert trials["baseline/2"]["state"] == "COMPLETE" and trials["baseline/1"]["retry"] is None
    assert trials["baseline/2"]["continues"] == "baseline/1"
    done = project.launch("--variant", "baseline")
    assert done.returncode == 0 and " starts on " not in done.stderr


def names_the_command(project) -> None:
    """Launch and status say how a failed recipe is run again; neither runs it."""
    for words in ((), ("--policy", "all")):
        again = project.launch(*words)
        assert again.returncode == 3 and " starts on " not in again.stderr
        assert f"with the cause removed, run it again: {COMMAND}" in again.stderr
        assert again.stderr.splitlines()[-1].endswith(COMMAND)
    assert COMMAND in project.call("sweep", "status", "tiny").stdout.splitlines()[-1]
    assert project.status()["baseline/0"]["retry"] == COMMAND


@pytest.mark.slow
@pytest.mark.sample
def test_right_weights_in_place_of_wrong_ones_are_a_change_also_if_they_are_older(project) -> None:
    good, start = project.root / "good.pth", project.root / "start.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's of its own parts, imported through mmengine
        from tiny_parts import TinyModel
    torch.save({"meta": {}, "state_dict": TinyModel().state_dict()}, good)
    project.ranks = 1
    warm = "{warm_start: {checkpoint: start.pth, min_matched: 0.9}, set"
    project.sweep(BASELINE.replace("{set", warm))
    start.write_bytes(b"\x80\x02not a checkpoint")
    failed = project.launch()
    assert failed.returncode == 3 and "(warm_start)" in failed.stderr, failed.stderr
    os.replace(good, start)
    done = project.launch()
    assert "start.pth has changed since" in done.stderr, done.stderr
    assert done.returncode == 0 and project.status()["baseline/1"]["state"] == "COMPLETE"


@pytest.mark.slow
@pytest.mark.sample
def test_a_nan_trial_is_named_by_every_launch_and_never_run_again(project) -> None:
    project.ranks = 1
    project.sweep(f"{BASELINE}  wild: {{like: baseline, set: {{model.fault: {{kind: nan}}}}}}\n")
    assert project.launch("--policy", "all").returncode == 3
    for words in (["--policy", "all"], ["--variant", "wild"]):
        again = project.launch(*words)
        assert again.returncode == 3 and " starts on " not in again.stderr
        assert "wild/0 failed (nan), and the same recipe would fail again" in again.stderr


@pytest.mark.parametrize("cause", [*Cause, None])
def test_the_ladder_ends_on_a_failure_with_the_command_where_one_helps(cause, project) -> None:
    project.sweep(BASELINE)
    plan = read_sweep(project.root / "sweeps" / "tiny.yaml", project.root)
    why = walk(plan, {"baseline": VariantOutcome(state="FAIL", cause=cause)}).why
    assert (COMMAND in why) == is_repairable(cause)
    assert is_repairable(cause) or cause != Cause.CODE_ERROR
