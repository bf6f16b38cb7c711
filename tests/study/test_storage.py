"""Storages that cannot be used are refused in a sentence, with no secret in it."""

import contextlib
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.study.db.storage import mask, open_storage


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("my.db", "write sqlite:///my.db"),
        ("mysql://u:geheim@h/d", "not supported"),
        ("sqlite:///nodir/x.db", 'The folder "nodir" of the storage'),
        ("sqlite:///:memory:", "lost with the process"),
        ("postgresql://u:geheim{x@h/d", "%7B"),
    ],
)
def test_what_no_storage_is(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url, tmp_path)
    assert told in str(caught.value) and "geheim" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello, this is no database at all")
    with pytest.raises(StorageError, match="is not an SQLite database"):
        open_storage(f"sqlite:///{tmp_path}/x.db", tmp_path)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Do without the right to write everything, which root has."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_database_or_folder_is_told_as_such() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder}/x.db"
        storage = open_storage(url, folder)
        storage.rdb  # noqa: B018
        storage.close()
        file = folder / "x.db"
        file.chmod(0o444)
        folder.chmod(0o555)
        with as_nobody(), pytest.raises(StorageError, match="x.db is read-only. Fix its perm"):
            open_storage(url, folder)
        file.chmod(0o600)
        with as_nobody(), pytest.raises(StorageError, match="read-only|cannot be opened"):
            open_storage(url, folder)
        with as_nobody(), pytest.raises((StorageError, PermissionError)):
            open_storage(f"sqlite:///{folder}/new.db", folder).rdb  # noqa: B018
        assert sorted(f.name for f in folder.iterdir() if f.suffix == ".db") == ["x.db"]
        folder.chmod(0o700)


def test_a_damaged_database_is_told_not_thrown(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\x00" + b"\x01" * 5000)
    storage = open_storage(f"sqlite:///{tmp_path}/x.db", tmp_path)
    with pytest.raises(StorageError, match="cannot be used"):
        storage.rdb  # noqa: B018


def test_the_database_is_private_and_has_a_write_ahead_log(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path / "runs")
    storage.rdb  # noqa: B018
    with storage.engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    storage.close()
    assert mode == "wal"
    assert (tmp_path / "runs").stat().st_mode & 0o077 == 0
    assert (tmp_path / "runs" / "pcan.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:geheim@h/d",
        "postgresql+psycopg://u:geheim@h:1/d?x=1",
        "sqlite:///x.db?password=geheim",
        "could not reach postgresql://u:geheim@h/d, giving up",
        "postgresql://h/d?sslpassword=geheim&x=1",
        "://:geheim@h",
    ],
)
def test_a_password_is_masked(text: str) -> None:
    assert "geheim" not in mask(text)
