"""A sweep half on videos, half on packs: recorded, counted, and kept apart wherever it is read."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
name: mini
config: configs/pcan_demo.py
objective:
  metric: acc/RGBPose_1:1_top1
  branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}
data: {root: clips, store: STORE}
patience: {epochs: 3, min_delta: 0.0005}
variants:
  one: {set: {train_cfg.max_epochs: 1}}
  two: {set: {train_cfg.max_epochs: 1, optim_wrapper.optimizer.lr: 1e-2}}
ladder: {start: one}
"""
pytestmark = [pytest.mark.slow, pytest.mark.sample]


def pcan(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def use(root: Path, store: str) -> None:
    (root / "sweeps" / "mini.yaml").write_text(SWEEP.replace("STORE", store))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini")
    (root / "sweeps").mkdir()
    shutil.copytree(ROOT / "configs", root / "configs")
    shutil.copy(ROOT / "wandb.yaml", root)
    use(root, "video")
    pcan(root, "data", "demo", "clips", "--clips", "2")
    pcan(root, "sweep", "launch", "mini", "--device", "cpu", "--variant", "one")
    pcan(root, "data", "prepare", "mini", "--workers", "1")
    damaged = next((root / "data/prepared/mini/train").glob("*.pack"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    use(root, "prepared")
    pcan(root, "sweep", "launch", "mini", "--device", "cpu", "--variant", "two")
    return root


def test_the_record_names_the_store_and_counts_what_came_from_videos(project: Path) -> None:
    manifest = json.loads((project / "data/prepared/mini/manifest.json").read_text())
    folder = project / "runs" / "mini" / "two" / "0"
    data = json.loads((folder / "spec.json").read_text())["data"]
    assert (data["store"], data["profile"]) == ("prepared", "fine")
    assert data["digest"] == manifest["digest"]
    [line] = (folder / "measurements.jsonl").read_text().splitlines()
    assert json.loads(line)["extra"]["data/from_video"] == 1
    assert (folder / "rank0.log").read_text().count("instead of its pack") <= 1
    waiting = json.loads((folder / "facts.json").read_text())["waiting"]
    assert 0 < waiting["seconds"] < waiting["of"]
    [line] = (project / "runs/mini/one/0/measurements.jsonl").read_text().splitlines()
    assert "data/from_video" not in json.loads(line)["extra"]


def test_status_compare_and_best_say_that_they_are_not_comparable(project: Path) -> None:
    reported = "Not comparable, their samples came from different stores"
    status = json.loads(pcan(project, "sweep", "status", "mini", "--json").stdout)
    assert status["not_comparable"].startswith(reported)
    [two] = [s["trials"][0] for s in status["studies"] if s["variant"] == "two"]
    assert (two["data_store"], two["data_profile"]) == ("prepared", "fine")
    assert reported in " ".join(pcan(project, "sweep", "status", "mini").stdout.split())
    best = pcan(project, "sweep", "best", "mini", "--json")
    assert json.loads(best.stdout)["not_comparable"].startswith(reported)
    assert reported in best.stderr
    record = json.loads((project / "exports/mini/best.json").read_text())
    assert [other["comparable"] for other in record["others"]] == [False]
    assert reported in (project / "exports/mini/README.md").read_text()
    page = pcan(project, "sweep", "compare", "mini", "--json").stdout
    compared = json.loads(page)
    assert compared["not_comparable"].startswith(reported)
    assert "different stores" in json.dumps(compared["differences"])


def test_check_names_the_store_of_a_sweep(project: Path) -> None:
    found = pcan(project, "data", "check", "mini", "--json", "--decode", "1").stdout
    store = json.loads(found)["store"]
    assert (store["store"], store["profile"]) == ("prepared", "fine") and len(
        store["digest"]
    ) == 64
