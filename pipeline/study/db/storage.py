"""The study storage: Optuna's tables and ours in one database, a file or on a server.

Whatever spans Optuna's calls and ours is done under `Storage.lock`, which dies with its holder.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StorageError
from pipeline.plan.project import relative
from pipeline.shared.files import make_private
from pipeline.study.db.busy_timeout import short_timeout
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.postgres import PostgresBackend
from pipeline.study.db.schema_version import TRIALS_TABLE, VERSION_TABLE, refuse_newer
from pipeline.study.db.sqlite import (
    HEAD,
    SqliteBackend,
    check_file,
    damage_of,
    put_aside,
    rebuild_remedy,
)
from pipeline.study.db.urls import URL_PREFIX, checked_url, mask, sqlite_url

if TYPE_CHECKING:
    import sqlalchemy as sa
    from optuna.storages import RDBStorage


class Storage:
    """An open storage.

    Args:
        url: SQLAlchemy URL; the password in it is never shown.
        shown: its name in messages; None for the URL without its secrets.
    """

    def __init__(self, url: str, shown: str | None = None) -> None:
        self.url = url
        self.shown = mask(url) if shown is None else shown
        self._backend: SqliteBackend | PostgresBackend = (
            SqliteBackend(url, self.shown) if url.startswith(URL_PREFIX) else PostgresBackend(url)
        )
        self._rdb: RDBStorage | None = None
        #: Leases of other hosts that look dead: token and renewal, and since when (monotonic).
        self.watched: dict[int, tuple[Any, float]] = {}

    @property
    def sqlite_file(self) -> Path | None:
        """The database file, None for a server."""
        return self._backend.file

    @property
    def host(self) -> str | None:
        """The server's name in the URL, None for a file or a local socket."""
        return self._backend.host

    @property
    def engine(self) -> "sa.Engine":
        """An engine for our own SQL; writes begin immediate on SQLite."""
        with self.errors_translated():
            return self._backend.engine

    @property
    def rdb(self) -> "RDBStorage":
        """Optuna's storage on the same database; makes or upgrades the tables on first use."""
        if self._rdb is None:
            with self.lock():
                self._rdb = self._open_rdb()
        return self._rdb

    def _open_rdb(self) -> "RDBStorage":
        import optuna
        from optuna.storages import RDBStorage

        from pipeline.study.tables import upgrade

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._backend.create()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            options = self._backend.engine_options()
            rdb = RDBStorage(self.url, engine_kwargs=options, skip_compatibility_check=True)
        try:
            rdb._version_manager.check_table_schema_compatibility()
            self._backend.prepare(rdb.engine)
            upgrade(self.engine, self.shown)
        except BaseException:
            rdb.engine.dispose()  # else its connections would stay open
            raise
        return rdb

    @contextlib.contextmanager
    def errors_translated(self) -> Iterator[None]:
        """Re-raise database errors as StorageError with a remedy."""
        with translate_errors(self.shown, self._backend.remedy):
            if self._backend.check_identity():
                self.close()
            yield

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the storage's one lock across processes; released when the holder dies.

        Raises:
            StorageError: another process keeps it too long, or the database fails in the block.
        """
        with self.errors_translated(), self._backend.lock():
            yield

    @contextlib.contextmanager
    def transaction(self) -> Iterator["sa.Connection"]:
        """Commit what the block writes together, or nothing of it if it raises."""
        with self.errors_translated(), self._backend.engine.begin() as connection:
            yield connection

    def short_timeout(self) -> contextlib.AbstractContextManager[None]:
        """Wait only a moment for a busy storage in this thread: jobs have to be supervised."""
        return short_timeout()

    def exists(self) -> bool:
        """Return whether the database has our table of trials; makes nothing.

        Raises:
            StorageError: it cannot be read, or was written by a newer pcan.
        """
        with self.errors_translated():
            tables = self._backend.existing_tables((TRIALS_TABLE, VERSION_TABLE))
        if VERSION_TABLE in tables:
            for row in self.read(f"SELECT version FROM {VERSION_TABLE}"):
                refuse_newer(int(row["version"]), self.shown)
        return TRIALS_TABLE in tables

    def damage(self) -> str | None:
        """Return what is wrong with an SQLite file, with the remedy; None if it is sound."""
        if self.sqlite_file is None:
            return None
        with self.errors_translated():
            answer = damage_of(self.sqlite_file)
        if answer is None:
            return None
        return f"The storage {self.shown} is damaged ({answer}). {rebuild_remedy(self.shown)}."

    def read(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run one query without waiting for writers; named parameters are `:name`."""
        with self.errors_translated():
            return self._backend.read(sql, values)

    def select(self, query: "sa.Select[Any]") -> list[dict[str, Any]]:
        """Run one query on the engine, without waiting for writers."""
        with (
            self.errors_translated(),
            self._backend.engine.connect().execution_options(reading=True) as connection,
        ):
            return [dict(row) for row in connection.execute(query).mappings()]

    def now(self) -> float:
        """Return the database's clock, in seconds since 1970."""
        with self.errors_translated():
            return self._backend.now()

    def clock(self) -> "sa.ColumnElement[float]":
        """Return `now` as an expression inside a statement: it takes no query of its own."""
        return self._backend.clock()

    def close(self) -> None:
        """Close every connection."""
        if self._rdb is not None:
            self._rdb.remove_session()
            self._rdb.engine.dispose()
            self._rdb = None
        self._backend.close()


def put_bad_aside(url: str | None, runs: Path) -> Path | None:
    """Rename the file of a storage if it cannot be used as one; return its new name.

    A file that the user names and that is no database at all is left alone.

    Args:
        url, runs: as for `open_storage`.

    Raises:
        StorageError: it cannot be looked at or renamed.
    """
    storage = storage_of(url, runs)
    file = storage.sqlite_file
    if file is None or (url is not None and not _is_database(file)):
        return None
    with storage.errors_translated():
        try:
            damage = damage_of(file, thorough=True)
        except OSError as error:
            raise StorageError(f"{storage.shown} cannot be opened: {error.strerror}.") from None
    if damage is None:
        return None
    with storage.lock():
        return put_aside(file)


def _is_database(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(HEAD)) == HEAD
    except OSError:
        return False


def storage_of(url: str | None, runs: Path) -> Storage:
    """Return the storage of a project without a look at its file; see `open_storage`."""
    if url is not None:
        checked = checked_url(url)
        return Storage(checked, mask(url if url.startswith(URL_PREFIX) else checked))
    file = runs / "pcan.db"
    return Storage(sqlite_url(file), relative(file, Path.cwd()))


def open_storage(url: str | None, runs: Path, create: bool = True) -> Storage:
    """Return the storage of a project.

    Args:
        url: a SQLAlchemy URL; None for `pcan.db` in the runs folder.
        runs: the project's runs folder; made, private to the user, if `create`.

    Raises:
        StorageError: the URL cannot be used, in words that name the part that is wrong.
    """
    if url is None and create:
        make_private(runs)
    storage = storage_of(url, runs)
    if storage.sqlite_file is not None:
        check_file(storage.sqlite_file, storage.shown)
    return storage
