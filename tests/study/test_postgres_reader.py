"""A server read by its driver alone: the same rows, one connection, also after a restart."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.db.urls import is_plain

QUERY = "SELECT CAST(:one AS integer) AS n, CAST('{\"a\": [1.5]}' AS json) AS facts, NULL AS token"


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("postgresql+psycopg://me@db.lab/pcan", True),
        ("postgresql+psycopg://me:a%40b@10.0.0.1:5433/pcan", True),
        ("postgresql+psycopg:///pcan", True),
        ("postgresql+psycopg://me@db.lab/pcan?sslmode=verify-full", False),
        ("postgresql+psycopg://me@[::1]/pcan", False),
        ("postgresql+psycopg://me@db.lab", False),
        ("postgresql+psycopg2://me@db.lab/pcan", False),
        ("postgresql://me@db.lab/pcan", False),
        ("sqlite:///pcan.db", False),
    ],
)
def test_only_what_both_read_alike_is_plain(url: str, plain: bool) -> None:
    assert is_plain(url) is plain


@pytest.mark.engine
def test_the_driver_and_sqlalchemy_return_the_same(postgres_url: str, tmp_path: Path) -> None:
    plain, options = (
        open_storage(postgres_url, tmp_path),
        Storage(f"{postgres_url}?sslmode=prefer"),
    )
    expected = [{"n": 7, "facts": {"a": [1.5]}, "token": None}]
    assert plain.read(QUERY, one=7) == expected == options.read(QUERY, one=7)
    assert plain.exists() == options.exists()
    assert abs(plain.now() - options.now()) < 60
    plain.close()
    options.close()


@pytest.mark.engine
def test_looking_at_a_server_imports_no_sqlalchemy(
    root: Path, postgres_url: str, tmp_path: Path
) -> None:
    reported = (
        "import sys; from pathlib import Path\n"
        "from pipeline.study.db.storage import open_storage\n"
        f"print(open_storage({postgres_url!r}, Path('.')).now() > 0, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", reported],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.engine
def test_a_server_that_cannot_be_read_is_reported_in_a_sentence(postgres, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Is the server up, and is the port"):
        open_storage(postgres.url(port=1), tmp_path).exists()
    with pytest.raises(StorageError, match="Make it, or correct its name"):
        open_storage(postgres.url("nosuch"), tmp_path).exists()
    storage = open_storage(postgres.url(), tmp_path)
    with pytest.raises(StorageError, match="cannot be used"):
        storage.read("SELECT * FROM no_such_table")
    storage.close()


@pytest.mark.engine
def test_a_look_after_a_restart_of_the_server_is_answered(
    postgres, tmp_path: Path, until: Callable[..., None]
) -> None:
    storage = open_storage(postgres.url(postgres.fresh("reader")), tmp_path)
    assert storage.exists() is False
    postgres.stop()
    postgres.start()
    assert storage.exists() is False
    storage.rdb  # noqa: B018  makes the tables, and takes the place of the reader
    assert storage.exists() is True
    query = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = 'reader'"
    # The server takes a closed connection off its list when it comes to it.
    until(lambda: storage.read(query) == [{"n": 1}], "the reader's connection is closed")
    storage.close()
