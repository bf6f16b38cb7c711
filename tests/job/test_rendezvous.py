"""The folder in which ranks meet goes with its launcher, or with the next one."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.job.rendezvous import Rendezvous, remove_stale

#: Says where it meets, then waits to be killed.
LAUNCHER = (
    "from pipeline.job.rendezvous import Rendezvous; print(Rendezvous().path, flush=True); input()"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def folders(tmp_path: Path) -> list[str]:
    return sorted(str(path) for path in tmp_path.glob("pcan-job-*"))


def test_what_a_killed_launcher_left_goes_and_what_is_held_stays(
    root: Path, tmp_path: Path
) -> None:
    env = {**os.environ, "PYTHONPATH": str(root)}
    words = [sys.executable, "-c", LAUNCHER]
    with subprocess.Popen(
        words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        left = launcher.stdout.readline().strip()
        mine = Rendezvous()
        remove_stale(stale_s=0)
        assert folders(tmp_path) == sorted([left, mine.path]), "both are held"
        launcher.kill()
    remove_stale()
    assert folders(tmp_path) == sorted([left, mine.path]), "its ranks may still be ending"
    remove_stale(stale_s=0)
    assert folders(tmp_path) == [mine.path]
    mine.close()
    mine.close()
    assert folders(tmp_path) == []


def test_a_strangers_folder_or_link_of_that_name_is_let_alone(tmp_path: Path) -> None:
    (tmp_path / "pcan-job-mine").mkdir()  # without a lock it is none of ours
    target = tmp_path / "precious"
    target.mkdir()
    (target / "launcher.lock").touch()
    (tmp_path / "pcan-job-link").symlink_to(target)
    remove_stale(stale_s=0)
    assert (tmp_path / "pcan-job-mine").is_dir() and target.is_dir()
