"""The researcher's fork, in an environment that knows nothing of pcan's own dependencies."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import their_code  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.sample]

SWEEP = """\
name: lab
config: lab.py
objective: {metric: fork/right, branches: {}}
job: {gpus: 2, python: env/bin/python, code_root: fork}
gates:
  - {epoch: 1, floor: 0.1}
variants:
  baseline: {set: {train_cfg.max_epochs: 2, model.cls_head.sharpness: 1.0}}
ladder: {start: baseline}
"""


def test_a_fork_in_an_older_environment_runs_a_sweep_unchanged(project) -> None:
    python = their_code.second_environment(project.root / "env")
    for name in their_code.LACKING:
        words = [str(python), "-I", "-c", f"import {name}"]
        assert subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode != 0
    their_code.fork(project.root / "fork")
    their_code.poses(project.root / "ann.pkl")
    (project.root / "lab.py").write_text(their_code.CONFIG)
    (project.root / "sweeps" / "lab.yaml").write_text(SWEEP)

    done = project.run("sweep", "launch", "lab", "--device", "cpu", "--wandb", "disabled")
    assert done.returncode == 0, done.stderr
    for told in ("has WandbVisBackend", "has EarlyStoppingHook", "says resume=True"):
        assert f"lab.py {told}, which is left out" in done.stderr
    folder = project.root / "runs" / "lab" / "baseline" / "0"
    assert len((folder / "measurements.jsonl").read_text().splitlines()) == 2
    theirs = (folder / "mmengine" / "lab-0.txt").read_text().splitlines()
    assert [line.split()[0] for line in theirs] == ["0", "1"]
    assert all(str(project.root / "fork") in line for line in theirs)
    assert "sharpness=1.0" in (folder / "config.py").read_text()
