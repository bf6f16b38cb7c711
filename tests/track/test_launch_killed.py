"""`pcan sweep launch --wandb live`, killed between epochs, launched again: all epochs, once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
name: tiny
config: jobs/tiny.py
objective: {metric: acc/RGBPose_1:1_top1, branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}}
job: {gpus: 2, code_root: jobs, stop_grace_s: 20, retry: {lost_worker: 2}}
variants:
  baseline: {set: {train_cfg.max_epochs: 5, model.sleep: 0.3}}
ladder: {start: baseline}
"""
pytestmark = [pytest.mark.slow, pytest.mark.sample]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "tiny.yaml").write_text(SWEEP)
    shutil.copytree(ROOT / "tests" / "jobs", tmp_path / "jobs")
    shutil.copy(ROOT / "wandb.yaml", tmp_path)
    return tmp_path


def pcan(project, *words):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.main", "sweep", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    with process:
        output, _ = process.communicate(timeout=240)
    return output


def measured(project):
    file = project / "runs/tiny/baseline/0/measurements.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


LAUNCH = ("launch", "tiny", "--device", "cpu", "--wandb", "live")


def test_after_sigkill_and_a_second_launch_wandb_holds_every_epoch_once(online, project, until):
    with pcan(project, *LAUNCH) as first:
        try:
            assert until(lambda: measured(project) >= 2)
        finally:
            os.kill(first.pid, signal.SIGKILL)
        first.stdout.read()
    output = finish(pcan(project, *LAUNCH))
    [run] = online.runs.values()
    assert run.epochs() == [1, 2, 3, 4, 5], output
    assert run.summary["status"] == "complete"
    status = json.loads(finish(pcan(project, "status", "tiny", "--json")))
    [trial] = status["studies"][0]["trials"]
    assert trial["wandb"]["synced"]
    assert (trial["wandb"]["id"], trial["wandb"]["mode"]) == (run.id, "live")
