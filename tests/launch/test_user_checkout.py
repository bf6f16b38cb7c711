"""The researcher's fork, in an environment that knows nothing of pcan's own dependencies."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import export_readme
import older_environments
import user_checkout

pytestmark = pytest.mark.slow

SWEEP = """\
name: lab
config: lab.py
objective: {metric: fork/right, branches: {}, goal: 0.2, best_known: 0.1}
job: {gpus: 2, python: env/bin/python, code_root: fork}
warm_start: {checkpoint: start.pth, make: start}
gates:
  - {epoch: 1, floor: 0.1}
variants:
  start:
    warm_start: null
    in_ladder: false
    gates: []
    set: {train_cfg.max_epochs: 1, optim_wrapper.optimizer.lr: 1e-9}
  baseline:
    gates: [{epoch: 1, floor: 0.95}]  # nothing is learnt at its rate
    set: {train_cfg.max_epochs: 2, optim_wrapper.optimizer.lr: 1e-9}
  softer:
    plan: A
    set: {train_cfg.max_epochs: 2, model.cls_head.sharpness: 1.0}
ladder: {start: baseline, after: [{epoch: 1, below: 0.95, next: [softer]}]}
"""


@pytest.fixture(params=["this", *older_environments.TORCH])
def lab(request, project):
    """A project with a second environment and a fork; jobs run by these."""
    if request.param == "this":
        python = user_checkout.second_environment(project.root / "env")
    else:
        python = Path(older_environments.python_with(request.param))
    for name in user_checkout.LACKING:
        words = [str(python), "-I", "-c", f"import {name}"]
        assert subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode != 0
    user_checkout.fork(project.root / "fork")
    project.python = "env/bin/python" if request.param == "this" else python
    return project


def lines_of_their_hook(lab, sweep: str, trial: str) -> list[str]:
    folder = lab.root / "runs" / sweep / trial
    lines = (folder / "mmengine" / "lab-0.txt").read_text().splitlines()
    assert all(str(lab.root / "fork") in line for line in lines)
    return [line.split()[0] for line in lines]


@pytest.mark.sample
def test_a_fork_in_an_older_environment_runs_a_sweep_unchanged(lab) -> None:
    user_checkout.poses(lab.root / "ann.pkl")
    (lab.root / "lab.py").write_text(user_checkout.CONFIG)
    text = SWEEP.replace("python: env/bin/python", f"python: {lab.python}")
    (lab.root / "sweeps" / "lab.yaml").write_text(text)

    done = lab.run("sweep", "launch", "lab", "--device", "cpu", "--wandb", "disabled")
    assert done.returncode == 0, done.stderr
    said = done.stderr + "".join(f.read_text() for f in (lab.root / "runs" / "lab").glob("*.log"))
    for reported in ("has WandbVisBackend", "has EarlyStoppingHook", "says resume=True"):
        assert f"lab.py {reported}, which is left out" in said
    states = {
        f"{study['variant']}/{trial['number']}": (trial["state"], trial["epochs"])
        for study in json.loads(lab.run("sweep", "status", "lab", "--json").stdout)["studies"]
        for trial in study["trials"]
    }
    assert states == {
        "start/0": ("COMPLETE", 1),
        "baseline/0": ("PRUNED", 1),
        "softer/0": ("COMPLETE", 2),
    }
    assert lines_of_their_hook(lab, "lab", "softer/0") == ["0", "1"]
    config = lab.root / "runs" / "lab" / "softer" / "0" / "config.py"
    assert "sharpness=1.0" in config.read_text()
    assert_that_its_export_can_be_used(lab)


def assert_that_its_export_can_be_used(lab) -> None:
    """Both commands of its README give the recorded accuracy, without pcan."""
    assert lab.run("sweep", "best", "lab").returncode == 0
    folder = lab.root / "exports" / "lab"
    record = json.loads((folder / "best.json").read_text())
    assert "pipeline.train" not in (folder / "config.py").read_text()
    assert "LabStop" not in (folder / "config.py").read_text()
    commands = export_readme.blocks(folder)
    for title in ("Test:", "or by the checkout's own program:"):
        output = export_readme.run(folder, commands[title])
        found = export_readme.measured(output, "fork/right")
        assert found == pytest.approx(record["top1"], abs=1e-3)


def test_the_demo_runs_through_a_fork_in_an_older_environment(lab) -> None:
    """The whole demo: minutes."""
    root = Path(__file__).parents[2]
    shutil.copytree(root / "configs", lab.root / "configs")
    (lab.root / "lab_demo.py").write_text(user_checkout.DEMO)
    demo = (root / "sweeps" / "demo.yaml").read_text()
    for old, new in (
        ("config: configs/pcan_demo.py", "config: lab_demo.py"),
        ("metric: acc/RGBPose_1:1_top1", "metric: fork/right"),
        ("\n  branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}", ""),
        ("job:\n", f"job:\n  python: {lab.python}\n  code_root: fork\n"),
    ):
        assert old in demo, old
        demo = demo.replace(old, new)
    (lab.root / "sweeps" / "demo.yaml").write_text(demo)

    assert lab.run("data", "demo", "data/demo").returncode == 0
    done = lab.run(
        "sweep", "launch", "demo", "--device", "cpu", "--wandb", "disabled", timeout=5400
    )
    assert done.returncode == 0, done.stderr
    best = json.loads(lab.run("sweep", "best", "demo", "--json").stdout)
    # All gates are passed; the goal was calibrated with the torch of pcan's own environment.
    assert (best["variant"], best["eligible"]) == ("lr-0.02", True)
    assert best["goal_reached"] or lab.python != "env/bin/python"
    assert lines_of_their_hook(lab, "demo", "baseline/0") == ["0"]
