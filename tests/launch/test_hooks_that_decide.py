"""Hooks and schedulers of a config that decide for themselves: left out, refused, or said."""

import json

import pytest

METRIC = "acc/RGBPose_1:1_top1"
STOPPER = '''

@HOOKS.register_module()
class Patient(EarlyStoppingHook):
    """Early stopping under a name of its own."""


@HOOKS.register_module()
class Impatient(Hook):
    """Ends the training by itself."""

    def after_val_epoch(self, runner, metrics=None):
        runner.train_loop.stop_training = True
'''


@pytest.fixture
def small(project):
    """A project with one process a job, and the config `jobs/own.py` to be written."""
    project.ranks = 1
    project.sweep("  baseline: {set: {val_evaluator.top1: [0.6, 0.55, 0.5, 0.85]}}\n")
    sweep = project.root / "sweeps" / "tiny.yaml"
    text = sweep.read_text().replace("tiny.py", "own.py")
    sweep.write_text(text.replace("patience: {epochs: 3", "patience: {epochs: 9"))
    parts = project.root / "jobs" / "tiny_parts.py"
    imports = (
        "from mmengine.hooks import EarlyStoppingHook, Hook\nfrom mmengine.registry import HOOKS\n"
    )
    old = "from mmengine.dist import get_rank\n"
    parts.write_text(parts.read_text().replace(old, old + imports) + STOPPER)
    return project


def write(project, text: str) -> None:
    (project.root / "jobs" / "own.py").write_text(f'_base_ = "./tiny.py"\n{text}\n')


def test_early_stopping_under_default_hooks_stops_nothing(small) -> None:
    hook = f'monitor="{METRIC}", patience=1, rule="greater"'
    write(
        small,
        f'default_hooks = dict(early_stopping=dict(type="EarlyStoppingHook", {hook}))\n'
        f'custom_hooks = [dict(type="Patient", {hook})]\nparam_scheduler = []',
    )
    said = "has EarlyStoppingHook, which is left out: patience in sweeps/tiny.yaml decides"
    assert said in small.call("sweep", "plan", "tiny").stderr
    done = small.launch()
    assert done.returncode == 0 and said in done.stderr, done.stderr
    start = small.root / "runs" / "tiny" / "start.log"
    assert "baseline: Patient is left out" in start.read_text()
    assert small.status()["baseline/0"]["best_epoch"] == 4
    assert "Left out: Patient" in (small.folder("baseline/0") / "rank0.log").read_text()


@pytest.mark.slow
@pytest.mark.sample
def test_a_training_that_a_hook_ends_is_no_complete_recipe(small) -> None:
    write(small, 'custom_hooks = [dict(type="Impatient")]')
    done = small.launch()
    assert done.returncode == 3, done.stderr
    trial = small.status()["baseline/0"]
    assert (trial["state"], trial["cause"], trial["epochs"]) == ("FAIL", "ended_early", 1)
    assert "after epoch 1 of 4, and not by the plan" in trial["reason"]
    assert "it has Impatient" in trial["reason"] and trial["retry"]


@pytest.mark.slow
@pytest.mark.sample
def test_a_schedule_that_follows_the_objective_is_shown_as_a_ceiling(small) -> None:
    kind = 'type="ReduceOnPlateauLR", rule="greater", factor=0.1, patience=0, by_epoch=True'
    write(small, f'param_scheduler = [dict(monitor="{METRIC}", {kind})]')
    shown = small.call("sweep", "plan", "tiny").stdout
    assert "lr (most)" in shown and f"the schedule follows {METRIC}" in shown
    record = json.loads(small.call("sweep", "plan", "tiny", "--json").stdout)
    assert record["variants"][0]["lr_follows"] == METRIC
    done = small.launch()
    assert done.returncode == 0 and f"the lr follows {METRIC}" in done.stderr, done.stderr
    assert "watch" not in done.stderr.split("epoch 4/4")[1]
    found = small.call("diagnose", "--trial", "baseline/0", "--json")
    assert "off_schedule" not in found.stdout and "is not compared" in found.stdout
