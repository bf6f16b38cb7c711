"""Our tables have a version: writing upgrades an older storage, a newer one is refused."""

import hashlib
import multiprocessing
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline.errors import StorageError
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.schema_version import SCHEMA_VERSION
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.register import recipe_of, register
from pipeline.study.trial_rows import read_board, sweeps_in

TEXT = (
    "name: many\nconfig: c.py\nobjective: {metric: acc/top1}\n"
    "variants: {v0: {set: {lr: 1e-3}}}\nladder: {start: v0}\n"
)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "s.yaml").write_text(TEXT)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.engine)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage with one registered sweep."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/s.db"
    server = request.getfixturevalue("postgres")
    return str(server.url(server.fresh(f"v{abs(hash(tmp_path.name)) % 10**9}")))


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def filled(sweep: Sweep, url: str) -> Storage:
    storage = open_storage(url, sweep.root)
    register(sweep, storage, {"v0": recipe_of(sweep.variants["v0"], "h")})
    storage.close()
    return storage


def version(storage: Storage) -> list[int]:
    return [row["version"] for row in storage.read("SELECT version FROM pcan_schema")]


def test_a_storage_without_a_version_is_upgraded_by_the_first_that_writes(
    sweep: Sweep, url: str
) -> None:
    storage = filled(sweep, url)
    execute(url, "DROP TABLE pcan_schema", "DROP INDEX ix_pcan_trials_phase")
    assert [row.name for row in read_board("many", storage)] == ["v0/0"]
    storage.close()
    assert "pcan_schema" not in sa.inspect(storage.engine).get_table_names()
    storage.rdb  # noqa: B018
    assert version(storage) == [SCHEMA_VERSION]
    names = {index["name"] for index in sa.inspect(storage.engine).get_indexes("pcan_trials")}
    assert "ix_pcan_trials_phase" in names
    wanted = ClaimRequest(variant="v0", trials=1, recipe_hash="h")
    lease = claim(sweep, storage, [wanted])
    assert lease is not None and lease.name == "v0/0"
    storage.close()


def test_a_storage_from_before_averaged_weights_gets_their_column(sweep: Sweep, url: str) -> None:
    storage = filled(sweep, url)
    drop = "ALTER TABLE pcan_trials DROP COLUMN averaged"
    execute(url, drop, "UPDATE pcan_schema SET version = 1")
    assert [row.averaged for row in read_board("many", storage)] == [{}]
    storage.close()
    storage.rdb  # noqa: B018
    assert version(storage) == [SCHEMA_VERSION]
    names = {column["name"] for column in sa.inspect(storage.engine).get_columns("pcan_trials")}
    assert "averaged" in names
    storage.close()


def test_reading_an_older_file_changes_no_byte_of_it(sweep: Sweep, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    storage = filled(sweep, f"sqlite:///{file}")
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE pcan_schema")
    connection.close()
    before = hashlib.sha256(file.read_bytes()).digest()
    assert storage.exists() and sweeps_in(storage) == {"many": 1}
    assert len(read_board("many", storage)) == 1
    storage.close()
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_a_newer_storage_is_refused_with_what_to_do(sweep: Sweep, url: str) -> None:
    storage = filled(sweep, url)
    execute(url, f"UPDATE pcan_schema SET version = {SCHEMA_VERSION + 1}")
    for use in (lambda: read_board("many", storage), lambda: storage.rdb):
        with pytest.raises(StorageError, match=r"written by a newer pcan.*Update pcan") as caught:
            use()
        assert caught.value.exit_code == 4
    storage.close()


def _open(url: str, barrier, results) -> None:
    storage = Storage(url)
    barrier.wait(240)
    try:
        storage.rdb  # noqa: B018
        results.put("opened")
    except Exception as error:
        results.put(repr(error))
    finally:
        storage.close()


@pytest.mark.parametrize("state", ["new", "old"])
def test_launches_that_open_a_storage_at_once_leave_one_version(
    sweep: Sweep, url: str, state: str
) -> None:
    if state == "old":
        filled(sweep, url)
        execute(url, "DROP TABLE pcan_schema")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_open, args=(url, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=240) for _ in processes] == ["opened"] * 3
    for process in processes:
        process.join()
    storage = Storage(url)
    assert version(storage) == [SCHEMA_VERSION]
    storage.close()
