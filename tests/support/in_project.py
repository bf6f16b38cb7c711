"""Runs this checkout's commands in a folder, as a user of that folder would."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pcan(root: Path, *words: str) -> str:
    """Return what a command prints; it has to succeed."""
    return python(root, "-m", "pipeline.cli.main", *words)


def python(root: Path, *words: str, **env: str) -> str:
    """Return what a Python program prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
