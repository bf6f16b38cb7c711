"""Results stay to be seen where the storage's place takes no writes; `clean`: test_clean.py."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StorageError
from pipeline.study.db import read_copy
from pipeline.study.db.read_copy import open_to_read
from pipeline.study.db.storage import Storage, open_storage
from tests.support.as_nobody import as_nobody


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a storage whose last study is in the write-ahead log only, as after a kill."""
    with tempfile.TemporaryDirectory() as name:
        runs, made = Path(name) / "runs", Path(name) / "made"
        made.mkdir()
        storage = open_storage(f"sqlite:///{made}/pcan.db", made)
        storage.rdb.create_new_study([], "kept")  # type: ignore[list-item]
        shutil.copytree(made, runs, ignore=shutil.ignore_patterns("*-shm"))
        storage.close()
        assert (runs / "pcan.db-wal").stat().st_size > 0
        Path(name).chmod(0o755)
        yield runs


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(read_copy.tempfile, "TemporaryFile", full)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def studies(storage: Storage) -> list[Any]:
    try:
        assert storage.exists() and storage.rdb.get_all_studies()
        return [row["study_name"] for row in storage.read("SELECT study_name FROM studies")]
    finally:
        storage.close()


@pytest.mark.parametrize("stump", [None, 0, 32768])
def test_a_full_disk_is_read_from_a_copy(folder, monkeypatch, stump) -> None:
    if stump is not None:  # what a command leaves that met the full disk, or a killed one before
        (folder / "pcan.db-shm").write_bytes(bytes(stump))
    before, said = files(folder), []
    fill_the_disk(monkeypatch)
    assert studies(open_to_read(None, folder, said.append)) == ["kept"]
    if stump == 32768:
        return
    assert len(said) == 1 and "takes no writes (No space left on device)" in said[0]
    after = files(folder)
    if stump == 0:  # this disk is not really full
        del before["pcan.db-shm"], after["pcan.db-shm"]
    assert after == before


def test_a_read_only_file_is_read_from_a_copy(folder) -> None:
    said: list[str] = []
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    try:
        with as_nobody():  # who may not be allowed to read this checkout's packages
            storage = open_to_read(None, folder, said.append)
        assert studies(storage) == ["kept"]
    finally:
        folder.chmod(0o755)
    assert "takes no writes (read-only): a copy of it is read" in said[0]


def test_the_copy_goes_with_its_storage(folder, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    fill_the_disk(monkeypatch)
    storage = open_to_read(None, folder)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o700]
    storage.close()
    assert not list(tmp_path.iterdir())


def test_no_room_for_a_copy_is_said(folder, monkeypatch) -> None:
    fill_the_disk(monkeypatch)
    monkeypatch.setattr(read_copy, "_copy", lambda *_: read_copy.tempfile.TemporaryFile())
    with pytest.raises(StorageError, match=r"no room for a copy to read \(/.*: No space left"):
        open_to_read(None, folder)


def test_a_sound_place_is_read_itself(folder) -> None:
    said: list[str] = []
    assert studies(open_to_read(None, folder, said.append)) == ["kept"] and not said
    storage = open_to_read(None, folder)
    assert storage.sqlite_file == folder / "pcan.db"
    storage.close()
