"""Environments of other researchers: another Python, an older torch, with MMAction2.

`make environments` makes them beside the sources; `PCAN_TEST_PYTHONS` names others, separated as
in PATH. A test that needs one is skipped where it is not there.
"""

import functools
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".environments"
#: What is claimed to work beside the environment of pcan itself, on Python 3.8 (see Makefile).
TORCH = ("1.13.1", "2.0.1", "2.4.1")


def python_with(torch: str) -> str:
    """Return an interpreter that has this release of torch; skip the test if there is none."""
    for python, version in known().items():
        if version == torch:
            return python
    pytest.skip(f"no interpreter with torch {torch}: make environments, or PCAN_TEST_PYTHONS")


def python(version: str) -> str:
    """Return an interpreter of this version that has pcan's packages; skip the test if none."""
    made = FOLDER / f"python-{version}"
    if not (made / ".ready").exists():
        pytest.skip(f"no environment of Python {version}: make environments")
    return str(made / "bin" / "python")


@functools.cache
def known() -> dict[str, str]:
    """Return the interpreters that have a torch, with its release."""
    named = os.environ.get("PCAN_TEST_PYTHONS", "").split(os.pathsep)
    made = [str(path) for path in sorted(FOLDER.glob("*/bin/python"))]
    releases = {python: _release(python) for python in [*filter(None, named), *made]}
    return {python: release for python, release in releases.items() if release}


def _release(python: str) -> str:
    asks = "import importlib.metadata as m; print(m.version('torch').split('+')[0])"
    done = subprocess.run([python, "-c", asks], capture_output=True, text=True, check=False)
    return done.stdout.strip()
