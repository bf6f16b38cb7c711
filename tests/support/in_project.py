"""Runs this checkout's commands in a folder, as a user of that folder would."""

import os
import subprocess
import sys
from pathlib import Path

from called import called
from rehearsed_ahead import rehearse_ahead

ROOT = Path(__file__).resolve().parents[2]


def pcan(root: Path, *words: str) -> str:
    """Return what a command prints; it has to succeed."""
    return python(root, "-m", "pipeline.cli.main", *words)


def printed(root: Path, *words: str) -> str:
    """Return what a command prints that is run in the tests' own process; it has to succeed."""
    done = called(*words, folder=root, environment=_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def launch(root: Path, sweep: str) -> None:
    """Run a sweep on the CPU, its configs rehearsed beforehand in a fork; it has to succeed."""
    rehearse_ahead(root, sweep, _environment())
    pcan(root, "sweep", "launch", sweep, "--device", "cpu")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def python(root: Path, *words: str, **env: str) -> str:
    """Return what a Python program prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env={**_environment(), **env},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
