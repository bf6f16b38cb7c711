"""Faults of the packages a job imports do not reach the job."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

_IMPORT = "import pipeline.train, mmengine.config; print(mmengine.config.Config({'a': 1}).dump())"


def run(root: Path, cache: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _IMPORT],
        cwd=root,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_well(process: "subprocess.Popen[str]") -> None:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "a = 1" in out


@pytest.mark.parametrize("kept", [0, 100])
def test_a_torn_grammar_file_is_made_again(root: Path, tmp_path: Path, kept: int) -> None:
    assert_well(run(root, tmp_path))
    files = sorted(tmp_path.rglob("*Grammar*.pickle"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:kept])
    assert_well(run(root, tmp_path))
    assert all(file.stat().st_size > 100 for file in tmp_path.rglob("*Grammar*.pickle"))
    assert_well(run(root, tmp_path))


def test_what_is_fixed_here_is_still_broken_there(root: Path, tmp_path: Path) -> None:
    """Where this fails, a newer package has fixed it and the part of `compat.py` may go."""
    (found,) = importlib.util.find_spec("mmaction").submodule_search_locations
    localizers = Path(found) / "models" / "localizers"
    assert "drn" in (localizers / "__init__.py").read_text()
    assert not (localizers / "drn").exists()
    assert_well(run(root, tmp_path))
    for file in tmp_path.rglob("*Grammar*.pickle"):
        file.write_bytes(b"")
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    words = [sys.executable, "-c", "import yapf"]
    alone = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert "EOFError" in alone.stderr
