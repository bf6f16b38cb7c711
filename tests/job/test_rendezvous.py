"""The folder in which ranks meet goes with its launcher, or with the next one."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.job.rendezvous import Rendezvous, most_bytes, remove_stale

#: Says where it meets, then waits to be killed.
LAUNCHER = (
    "from pipeline.job.rendezvous import Rendezvous; print(Rendezvous().path, flush=True); input()"
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name: pytest's own may be too long for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="pcan-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def folders(tmp_path: Path) -> list[str]:
    return sorted(str(path) for path in tmp_path.glob("pcan-job-*"))


def test_a_folder_without_locks_is_used_and_never_removed_by_others(tmp_path, monkeypatch) -> None:
    def refuse(*_) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("fcntl.flock", refuse)
    meeting = Rendezvous()
    remove_stale(stale_s=0)
    assert Path(meeting.path).is_dir()
    meeting.close()
    assert not list(tmp_path.iterdir())


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
    remove_stale(stale_s=3600)
    assert folders(tmp_path) == sorted([left, mine.path]), "its ranks may still be ending"
    remove_stale(stale_s=0)
    assert folders(tmp_path) == [mine.path]
    mine.close()
    mine.close()
    assert folders(tmp_path) == []


def test_other_users_folders_and_links_of_that_name_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pcan-job-mine").mkdir()  # without a lock it is none of ours
    target = tmp_path / "precious"
    target.mkdir()
    (target / "launcher.lock").touch()
    (tmp_path / "pcan-job-link").symlink_to(target)
    remove_stale(stale_s=0)
    assert (tmp_path / "pcan-job-mine").is_dir() and target.is_dir()


def named(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    for key in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(key, folder)
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.parametrize("letter", ["t", "語", " ", "%"])
def test_a_temporary_folder_too_long_for_sockets_gives_way_to_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    size = len(letter.encode())
    for over in (0, size):
        least = most_bytes() - len(str(tmp_path)) - 1
        folder = tmp_path / (letter * ((least + over) // size))
        folder.mkdir()
        named(monkeypatch, str(folder))
        env: dict[str, str] = {}
        mine = Rendezvous()
        mine.prepare(env)
        short = len(os.fsencode(mine.path)) < 60
        assert (env["TMPDIR"] == (mine.path if over else str(folder))) and short == bool(over)
        mine.close()


def test_a_socket_of_every_kind_fits_into_the_longest_folder(tmp_path: Path) -> None:
    import socket

    folder = tmp_path / ("x" * (most_bytes() - len(str(tmp_path)) - 1))
    for name in ("torch-shm-dir-abcdef/manager.sock", "pymp-abcdefgh/listener-abcdefgh"):
        path = folder / name
        path.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))


@pytest.mark.parametrize("missing", ["no/such/folder", "a-file"])
def test_a_temporary_folder_that_cannot_be_used_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (tmp_path / "a-file").touch()
    named(monkeypatch, str(tmp_path / missing))
    env: dict[str, str] = {}
    mine = Rendezvous()
    mine.prepare(env)
    assert Path(env["TMPDIR"]).is_dir() and str(tmp_path) not in env["TMPDIR"]
    mine.close()
