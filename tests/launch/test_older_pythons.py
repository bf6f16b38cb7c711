"""Whole trials in older environments: Python 3.8 with torch 1.13, 2.0 and 2.4."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import older_environments
from tiny_project import Project, watched

pytestmark = pytest.mark.slow

#: Written by MMEngine itself, as a researcher's CheckpointHook does, with its history in it.
START = """\
import sys
from mmengine import Config
from mmengine.runner import Runner
config = Config.fromfile("jobs/tiny.py")
config.work_dir = "his"
config.train_cfg.max_epochs = 1
Runner.from_cfg(config).train()
"""
#: Also modules that no trial of these tests needs.
IMPORTS = """\
import importlib, pkgutil
import pipeline.shared, pipeline.train
for package in (pipeline.train, pipeline.shared):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""
EPOCHS = 4
VARIANTS = """\
  baseline:
    set:
      train_cfg.max_epochs: 4
      custom_hooks: [{type: EMAHook, momentum: 0.1}]
      param_scheduler:
        - {type: MultiStepLR, milestones: [2, 2, 3], gamma: 0.5, by_epoch: true}
    space:
      optim_wrapper.optimizer.lr: {low: 1e-3, high: 0.1, log: true}
"""
MORE = """\
search: {rule: ladder, at: [0.5], finish: 1, seed: 3}
warm_start: {checkpoint: his/epoch_1.pth, expect: 0.7, tolerance: 0.3}
"""


@pytest.fixture(scope="module", params=older_environments.TORCH)
def old(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A project whose jobs run in an older environment, with a checkpoint of MMEngine's."""
    python = older_environments.python_with(request.param)
    root = tmp_path_factory.mktemp("old") / "我的 项目"
    root.mkdir()
    project = Project(root)
    project.sweep(VARIANTS)
    file = root / "sweeps" / "tiny.yaml"
    text = file.read_text().replace("job: {", f"job: {{python: {python}, ")
    file.write_text(text.replace("floor: 0.5, target: 0.6", "floor: 0.01") + MORE)
    environment = {**os.environ, "PYTHONPATH": str(root / "jobs"), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([python, "-c", START], cwd=root, env=environment, check=True)
    yield from watched(project)


def test_a_search_pauses_promotes_and_reads_averages(old: Project) -> None:
    words = ("sweep", "search", "tiny", "--trials", "3", "--device", "cpu", "--wandb", "disabled")
    done = old.run(*words)
    assert done.returncode == 0, done.stderr
    trials = old.status()
    resumed = [n for n, t in trials.items() if t["state"] == "COMPLETE" and t["attempts"] == 2]
    assert resumed and old.epochs(resumed[0]) == list(range(EPOCHS + 1))
    lines = (old.folder(resumed[0]) / "measurements.jsonl").read_text().splitlines()
    read = [one["epoch"] for one in map(json.loads, lines) if "averaged_top1" in one["extra"]]
    assert read == [3]


def test_an_interrupted_trial_goes_on_where_it_stopped(old: Project) -> None:
    first = old.start(*old.launch_words())
    for line in first.stdout:
        if "epoch 1/4" in line:
            os.kill(first.pid, signal.SIGINT)
            break
    first.communicate()
    assert first.returncode == 130
    done = old.launch()
    assert done.returncode == 0, done.stderr
    trial = old.status()["baseline/0"]
    assert (trial["state"], trial["attempts"]) == ("COMPLETE", 2)
    assert old.epochs("baseline/0") == list(range(EPOCHS + 1))


def test_doctor_and_inspect_use_that_environment(old: Project) -> None:
    doctor = json.loads(old.run("doctor", "tiny", "--device", "cpu", "--json").stdout)
    assert doctor["ready"], doctor
    shown = old.run("checkpoint", "inspect", str(Path("his") / "epoch_1.pth"))
    assert shown.returncode == 0, shown.stderr


def test_a_trial_is_run_again_to_the_bit_and_refined(old: Project) -> None:
    trial = next(name for name, t in old.status().items() if t["state"] == "COMPLETE")
    checked = old.run("sweep", "rerun", trial, "--sweep", "tiny", "--check")
    assert checked.returncode == 0 and "to the bit" in checked.stdout, checked.stderr
    refined = json.loads(old.run("sweep", "refine", "tiny", "--json").stdout)
    assert {line["name"] for line in refined["lines"]} >= {"plain", "last_k"}


def test_every_module_of_the_job_side_can_be_imported(old: Project) -> None:
    line = next(
        one
        for one in (old.root / "sweeps" / "tiny.yaml").read_text().splitlines()
        if one.startswith("job:")
    )
    python = line.partition("python: ")[2].partition(",")[0]
    done = subprocess.run(
        [python, "-W", "ignore", "-c", IMPORTS],
        env=old.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
