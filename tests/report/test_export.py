"""A real PCAN trial, exported, then tested and trained again by MMEngine in new processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import export_readme
from in_project import launch, pcan, printed, python
from pipeline.report.best.text import best_lines
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
name: mini
config: configs/pcan_demo.py
objective:
  metric: acc/RGBPose_1:1_top1
  branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}
  goal: 0.99
data: {root: clips}
job: {gpus: 1}
patience: {epochs: 3, min_delta: 0.0005}
warm_start: {checkpoint: work_dirs/start.pth, make: start}
variants:
  start: {warm_start: null, in_ladder: false, set: {train_cfg.max_epochs: 1}}
  baseline: {set: {train_cfg.max_epochs: 1, optim_wrapper.optimizer.lr: 1e-3}}
ladder: {start: baseline}
"""
RUN = "from mmengine import Config; from mmengine.runner import Runner; "


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose sweep was run: starting weights, then a fine-tuning from them."""
    root = tmp_path_factory.mktemp("mini")
    (root / "sweeps").mkdir()
    (root / "sweeps" / "mini.yaml").write_text(SWEEP)
    shutil.copytree(ROOT / "configs", root / "configs")
    shutil.copy(ROOT / "wandb.yaml", root)
    printed(root, "data", "demo", "clips", "--clips", "4")
    launch(root, "mini")
    printed(root, "sweep", "best", "mini")
    return root


def test_validation_keeps_the_predicted_class_of_each_clip(project: Path) -> None:
    run = RunDir(project / "runs" / "mini" / "baseline" / "0")
    [measured] = run.read_measurements()
    found = Predictions.from_bytes(run.predictions_of(1).read_bytes())
    right = [p == t for p, t in zip(found.predicted, found.labels, strict=True)]
    assert found.metric == "acc/RGBPose_1:1_top1"
    assert len(right) == json.loads(run.facts.read_text())["val_clips"]
    assert sum(right) / len(right) == pytest.approx(measured.top1)


def record(project: Path) -> dict:
    return json.loads((project / "exports" / "mini" / "best.json").read_text())


def test_the_starting_weights_were_made_once_and_loaded(project: Path) -> None:
    assert (project / "work_dirs" / "start.pth").is_file()
    log = (project / "runs" / "mini" / "baseline" / "0" / "rank0.log").read_text()
    assert "Warm start" in log
    status = json.loads(printed(project, "sweep", "status", "mini", "--json"))
    assert status["best"]["variant"] == "baseline"


def test_the_readmes_command_gives_the_recorded_top1_again(project: Path) -> None:
    folder = project / "exports" / "mini"
    said = export_readme.blocks(folder)
    assert 'export PCAN_DATA_ROOT="clips"' in str(said)
    assert 'c.load_from = "work_dirs/start.pth"' in str(said)
    assert "No other trial of this sweep has measured" in (folder / "README.md").read_text()
    output = export_readme.run(folder, said["Test:"])
    value = export_readme.measured(output, "acc/RGBPose_1:1_top1")
    assert value == pytest.approx(record(project)["top1"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.sample
def test_the_exported_config_trains_again(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "exports" / "mini" / "config.py", tmp_path)
    program = (
        RUN + "c = Config.fromfile('config.py'); c.work_dir = 'train'; "
        "r = Runner.from_cfg(c); r.train(); "
        "print('HOOKS', [type(h).__name__ for h in r.hooks], r.epoch)"
    )
    out = python(tmp_path, "-c", program, PCAN_DATA_ROOT=str(project / "clips"))
    assert "EarlyStoppingHook" in out.rpartition("HOOKS")[2]
    assert list((tmp_path / "train").glob("*.pth"))


def test_an_export_names_no_path_of_the_machine(project: Path) -> None:
    for name in ("config.py", "best.json", "README.md"):
        assert str(project) not in (project / "exports" / "mini" / name).read_text(), name


def test_weights_load_without_executing_anything(project: Path) -> None:
    program = (
        "import torch; w = torch.load('weights.pth', weights_only=True); "
        "print(sorted(k for k in w['state_dict'] if 'proto' in k)[:1], list(w))"
    )
    assert "state_dict" in python(project / "exports" / "mini", "-c", program)


def test_the_export_is_a_folder_to_share(project: Path) -> None:
    hub, library = pytest.importorskip("huggingface_hub"), pytest.importorskip("safetensors")
    folder = project / "exports" / "mini"
    [result] = hub.ModelCard.load(folder / "README.md").data.eval_results
    assert result.metric_value == record(project)["top1"]
    assert result.dataset_split == record(project)["dataset"]["split"]
    program = (
        "import torch; from safetensors.torch import load_file; "
        "a = load_file('weights.safetensors'); "
        "b = torch.load('weights.pth', weights_only=True)['state_dict']; "
        "print(set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a))"
    )
    assert library and python(folder, "-c", program).strip() == "True"
    assert "torch==" in (folder / "requirements.txt").read_text()


@pytest.mark.slow
@pytest.mark.sample
def test_a_second_export_replaces_the_first_whole(project: Path) -> None:
    folder = project / "exports" / "mini"
    (folder / "stray").write_text("x")
    pcan(project, "sweep", "best", "mini", "--test")
    assert not (folder / "stray").exists()
    measured = record(project)["measured_anew"]
    assert measured["val"] == pytest.approx(record(project)["top1"], abs=1e-3)
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def test_a_folder_that_is_not_an_export_is_left_alone(project: Path) -> None:
    other = project / "notes"
    other.mkdir()
    (other / "diary.txt").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "sweep", "best", "mini", "--out", "notes"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "is not an export" in done.stderr
    assert [p.name for p in other.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize(("value", "said"), [(0.8004, False), (0.79, True), (0.81, True)])
def test_a_reading_that_is_not_the_recorded_one_is_said(value: float, said: bool) -> None:
    sweep = SimpleNamespace(objective=SimpleNamespace(goal=None))
    winner = SimpleNamespace(row=SimpleNamespace(name="b/0"), unconfirmed=None)
    answer = {
        "top1": 0.8,
        "std_error": 0.01,
        "goal_reached": False,
        "epoch": 3,
        "out": "exports/b",
    }
    lines = best_lines(sweep, winner, {**answer, "measured_anew": {"val": value, "test": 0.5}})
    again = [line for line in lines if "measured again" in line]
    assert ("points off the recorded 80.00 %" in again[0]) == said and "off" not in again[1]
