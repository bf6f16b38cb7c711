"""Storages that cannot be used are refused in a sentence, with no secret in it."""

import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.errors import StorageError
from pipeline.study.db.storage import mask, open_storage
from pipeline.study.db.urls import sqlite_url
from tests.support.as_nobody import as_nobody


@pytest.mark.parametrize(
    ("url", "reported"),
    [
        ("my.db", "write sqlite:///my.db"),
        ("mysql://u:geheim@h/d", "not supported"),
        ("sqlite:///nodir/x.db", 'The folder "nodir" of the storage'),
        ("sqlite:///:memory:", "lost with the process"),
        ("sqlite:///a?b.db", "write it as %3F: sqlite:///a%3Fb.db"),
        ("sqlite:///file:a.db?mode=ro&uri=true", "is not an option of a file's"),
        ("sqlite://host/x.db", "needs three slashes"),
        ("postgresql+psycopg://u:ge@heim@h/d", "more than one @"),
        ("postgresql+psycopg://u:geheim geheim@h/d", "a space as %20"),
        ("postgresql+psycopg://u:geheim@h:port/d", "is not a storage URL"),
    ],
)
def test_what_no_storage_is(tmp_path: Path, url: str, reported: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url, tmp_path)
    assert reported in str(caught.value) and "geheim" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello, this is no database at all")
    with pytest.raises(StorageError, match="is not an SQLite database"):
        open_storage(f"sqlite:///{tmp_path}/x.db", tmp_path)


#: Letters that mean something in a URL, a shell, a format string or a pattern.
NAMES = (
    *(
        "a?b",
        "a?c",
        "100%20x",
        "100 x",
        "a{b}",
        "a#b",
        "a&b=c",
        "a%",
        "a+b",
        "a:b",
        "[a]",
        "$HOME",
    ),
    *("it's", 'a"b', "测试 文件夹", "-rf", "~", "a\\b", "a;b", "%(asctime)s", "n" * 200),
)


def test_each_folder_has_its_own_database_whatever_letters_it_has(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        storage = open_storage(None, tmp_path / name / "runs")
        with storage.transaction() as connection:
            connection.exec_driver_sql(f"CREATE TABLE t AS SELECT {number} AS n")
        storage.close()
    for number, name in enumerate(NAMES):
        runs = tmp_path / name / "runs"
        assert (runs / "pcan.db").is_file()
        given = open_storage(sqlite_url(runs / "pcan.db"), tmp_path)
        for storage in (open_storage(None, runs, create=False), given):
            assert storage.read("SELECT n FROM t") == [{"n": number}], name
            with storage.transaction() as connection:
                assert connection.exec_driver_sql("SELECT n FROM t").scalar() == number
            storage.close()
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", ["a?b{c}", "100%20x", "it's #1 & 测试"])
def test_optuna_opens_the_same_file(tmp_path: Path, name: str) -> None:
    storage = open_storage(None, tmp_path / name / "runs")
    storage.rdb  # noqa: B018
    storage.close()
    assert open_storage(None, tmp_path / name / "runs").exists()
    assert [f.name for f in tmp_path.iterdir()] == [name]


@pytest.mark.engine
@pytest.mark.parametrize("letters", ["p@s:s/w?o#r{d}%41 &=+'\"", "geheim测试%", "-x[1]$HOME\\"])
def test_a_servers_names_may_have_any_letters(postgres, tmp_path: Path, letters: str) -> None:
    secret, name = letters.replace("'", "''"), letters.replace('"', '""')
    postgres.query(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{secret}'")
    postgres.query(f'CREATE DATABASE "{name}" OWNER "{name}"')
    place = f"127.0.0.1:{postgres.port}/{quote(letters, safe='')}"
    word = quote(letters, safe="")
    storage = open_storage(f"postgresql+psycopg://{word}:{word}@{place}", tmp_path)
    storage.rdb  # noqa: B018
    reported = storage.read("SELECT current_user AS u, current_database() AS d")
    storage.close()
    assert reported == [{"u": letters, "d": letters}]
    assert storage.exists() and word + "@" not in storage.shown
    storage.close()


def test_a_read_only_database_or_folder_is_reported_as_such() -> None:
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


def test_a_damaged_database_is_reported_not_thrown(tmp_path: Path) -> None:
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
        "postgresql://u:geh@geheim@h/d",
    ],
)
def test_a_password_is_masked(text: str) -> None:
    assert "geheim" not in mask(text)
