"""Every kind of refined export, measured again by MMEngine in a new process: the same number."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from in_project import pcan, python
from pipeline.refine.evaluations import Evaluations
from pipeline.refine.recipes import recipe_of
from pipeline.refine.score_worker import ScoreWorker

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
name: mini
config: configs/pcan_demo.py
objective:
  metric: acc/RGBPose_1:1_top1
  branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}
data: {root: clips}
warm_start: {checkpoint: work_dirs/start.pth, make: start}
variants:
  start: {warm_start: null, in_ladder: false, set: {train_cfg.max_epochs: 2}}
  baseline: {set: {train_cfg.max_epochs: 2, optim_wrapper.optimizer.lr: 1e-2}}
  other: {set: {train_cfg.max_epochs: 2, optim_wrapper.optimizer.lr: 5e-3}}
ladder: {start: baseline}
"""
TEST = (
    "from mmengine import Config; from mmengine.runner import Runner; import json; "
    "c = Config.fromfile('config.py'); c.work_dir = 'test'; c.load_from = 'weights.pth'; "
    "c.test_dataloader = c.val_dataloader; "
    "print('RESULT', json.dumps({k: float(v) for k, v in Runner.from_cfg(c).test().items()}))"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two trials from the same weights, refined."""
    root = tmp_path_factory.mktemp("mini")
    (root / "sweeps").mkdir()
    (root / "sweeps" / "mini.yaml").write_text(SWEEP)
    shutil.copytree(ROOT / "configs", root / "configs")
    shutil.copy(ROOT / "wandb.yaml", root)
    pcan(root, "data", "demo", "clips", "--clips", "6")
    words = ("--policy", "all", "--device", "cpu", "--wandb", "disabled")
    pcan(root, "sweep", "launch", "mini", *words)
    pcan(root, "sweep", "refine", "mini", "--device", "cpu", "--json")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("line", ["ratio", "last_k", "soup", "flip", "clips", "ensemble"])
def test_an_export_of_each_line_gives_its_number_again(project: Path, line: str) -> None:
    """A line is put in as the chosen one, tuned ratio and all."""
    best = json.loads(pcan(project, "sweep", "status", "mini", "--json"))["best"]
    run = project / "runs" / "mini" / best["variant"] / str(best["number"])
    table = json.loads((run / "refine" / "table.json").read_text())
    place = max(i for i, one in enumerate(table["lines"]) if one["name"] == line)
    changed = {**table, "chosen": line, "chosen_line": place, "better": True}
    (run / "refine" / "table.json").write_text(json.dumps(changed))
    out = ("sweep", "best", "mini", "--refined", "--json", "--out", f"exports/{line}")
    answer = json.loads(pcan(project, *out))
    folder = project / "exports" / line
    found = python(folder, "-c", TEST, PCAN_DATA_ROOT=str(project / "clips"))
    metrics = json.loads(found.rpartition("RESULT")[2])
    clip = 1.01 / table["clips"]  # half precision may decide a tie otherwise
    assert metrics["acc/refined_top1"] == pytest.approx(table["lines"][place]["fitted"], abs=clip)
    assert answer["refined"]["metric"] == "acc/refined_top1"
    record = json.loads((folder / "best.json").read_text())
    assert len(record["refined"]["lines"]) == len(table["lines"])
    assert str(project) not in (folder / "config.py").read_text()


@pytest.mark.slow
def test_a_soup_of_two_trials_gives_what_was_read_of_it(project: Path) -> None:
    best = json.loads(pcan(project, "sweep", "status", "mini", "--json"))["best"]
    run = project / "runs" / "mini" / best["variant"] / str(best["number"])
    table = json.loads((run / "refine" / "table.json").read_text())
    place = next(i for i, one in enumerate(table["lines"]) if one["name"] == "soup")
    apart = next(one for one in table["lines"] if one["name"] == "ensemble")["recipe"]["readings"]
    both = {**apart[0], "weights": [w for one in apart for w in one["weights"]]}
    recipe = {"readings": [both], "ratio": {"rgb": 0.5, "log": False}}
    folders = {w["trial"]: project / "runs" / "mini" / w["trial"] for w in both["weights"]}
    (reading,) = recipe_of(recipe, folders).readings
    scores = Evaluations(run, no_worker, 0, lambda *_: None).scores(reading)  # the soup tried it
    fused = sum(np.asarray(one, dtype=float) for one in scores.branches.values())
    read = float((fused.argmax(1) == np.asarray(scores.labels)).mean())
    table["lines"][place] |= {"recipe": recipe, "ratio": None, "fitted": read}
    table |= {"chosen": "soup", "chosen_line": place, "better": True}
    (run / "refine" / "table.json").write_text(json.dumps(table))
    pcan(project, "sweep", "best", "mini", "--refined", "--out", "exports/two")
    found = python(project / "exports" / "two", "-c", TEST, PCAN_DATA_ROOT=str(project / "clips"))
    metrics = json.loads(found.rpartition("RESULT")[2])
    assert metrics["acc/refined_top1"] == pytest.approx(read, abs=1.01 / table["clips"])


def no_worker(_: int) -> ScoreWorker:
    raise AssertionError("these scores are kept")


@pytest.mark.slow
def test_where_nothing_is_better_the_plain_winner_is_exported(project: Path) -> None:
    best = json.loads(pcan(project, "sweep", "status", "mini", "--json"))["best"]
    run = project / "runs" / "mini" / best["variant"] / str(best["number"])
    table = json.loads((run / "refine" / "table.json").read_text())
    plain = {**table, "chosen": "plain", "chosen_line": 0, "better": False}
    (run / "refine" / "table.json").write_text(json.dumps(plain))
    answer = json.loads(pcan(project, "sweep", "best", "mini", "--refined", "--json"))
    assert answer["refined"]["metric"] is None
    text = (project / "exports" / "mini" / "config.py").read_text()
    assert "RatioAccMetric" not in text
