"""The study storage: Optuna's tables and our own in one database, opened safely.

SQLite gets what Optuna leaves out (write-ahead log, immediate transactions, a long busy
time-out): without them it hands one queued trial to several launchers. Whatever spans Optuna's
calls and ours is done under `Storage.lock`, which dies with its holder.
"""

import contextlib
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StorageError
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.locks import file_lock, server_lock
from pipeline.study.db.postgres_reader import PostgresReader, is_plain
from pipeline.study.db.urls import check_sqlite, check_url, mask

if TYPE_CHECKING:
    import sqlalchemy as sa
    from optuna.storages import RDBStorage

_SQLITE = "sqlite:///"

#: How long a busy storage is waited for, and how long while jobs have to be looked after.
BUSY_TIMEOUT_S = 60.0
SHORT_TIMEOUT_S = 1.0


class Storage:
    """An open storage.

    Args:
        url: SQLAlchemy URL; the password in it is never shown.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: sa.Engine | None = None
        self._rdb: RDBStorage | None = None
        self._reader: PostgresReader | None = None
        self._file_id: tuple[int, int] | None = None
        #: Leases of other hosts that look dead: what they said, and since when (monotonic).
        self.watched: dict[int, tuple[Any, float]] = {}
        #: How long a lock held by another process is waited for.
        self.patience_s = BUSY_TIMEOUT_S

    @property
    def shown(self) -> str:
        """The URL without secrets, for messages."""
        return mask(self.url)

    @property
    def sqlite_file(self) -> Path | None:
        """The database file, None for a server."""
        if not self.url.startswith(_SQLITE):
            return None
        return Path(self.url.removeprefix(_SQLITE).split("?", 1)[0])

    @property
    def host(self) -> str | None:
        """The server's name in the URL, None for a file or a local socket."""
        if self.sqlite_file is not None:
            return None
        import sqlalchemy as sa

        return sa.make_url(self.url).host

    @property
    def engine(self) -> "sa.Engine":
        """An engine for our own SQL; writes begin immediate on SQLite."""
        if self._engine is None:
            from pipeline.study.db.engines import make_engine

            self._close_reader()  # one connection is enough
            with translate_errors(self):
                self._engine = make_engine(self)
        return self._engine

    @property
    def rdb(self) -> "RDBStorage":
        """Optuna's storage on the same database; makes the tables on first use."""
        if self._rdb is None:
            with self.lock(), translate_errors(self):
                self._rdb = self._open_rdb()
        return self._rdb

    def _open_rdb(self) -> "RDBStorage":
        import optuna
        import sqlalchemy as sa
        from optuna.storages import RDBStorage

        from pipeline.study.db.engines import prepare_sqlite, server_options
        from pipeline.study.tables import metadata, waiting_index

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        file = self.sqlite_file
        if file is not None and not file.exists():
            file.touch(mode=0o600)
        if file is not None:
            kwargs: dict[str, Any] = {"connect_args": {"timeout": self.patience_s}}
        else:
            kwargs = {"connect_args": server_options(self.url)["connect_args"]}
            kwargs["poolclass"] = sa.pool.NullPool  # rarely used: no connection is kept for it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            rdb = RDBStorage(self.url, engine_kwargs=kwargs, skip_compatibility_check=True)
        try:
            rdb._version_manager.check_table_schema_compatibility()
        except RuntimeError:
            rdb.engine.dispose()  # else its connections would stay open
            raise
        if file is not None:
            prepare_sqlite(rdb.engine, self)
        metadata.create_all(self.engine)
        waiting_index.create(self.engine, checkfirst=True)  # a table of before has none
        return rdb

    def lock(self) -> "contextlib.AbstractContextManager[None]":
        """Hold the storage's one lock across processes; released when the holder dies."""
        return server_lock(self) if self.sqlite_file is None else file_lock(self, self.sqlite_file)

    @contextlib.contextmanager
    def short_timeout(self) -> Iterator[None]:
        """Wait no longer than a moment for a busy storage: jobs have to be looked after."""
        before, self.patience_s = self.patience_s, SHORT_TIMEOUT_S
        try:
            yield
        finally:
            self.patience_s = before

    def check_file_identity(self) -> None:
        """Refuse to go on writing into a database file that was deleted or replaced.

        SQLite would do so without a word, and lose everything with the process.

        Raises:
            StorageError: the file is gone.
        """
        file = self.sqlite_file
        if file is None:
            return
        try:
            stat = file.stat()
        except OSError as error:
            if self._file_id is None:
                return
            raise StorageError(
                f"The storage {self.shown} is gone ({error.strerror}). Put it back, or refill a "
                "new one from the run directories: pcan doctor --rebuild"
            ) from None
        found = stat.st_dev, stat.st_ino
        if self._file_id not in (None, found):
            self.close()  # connections still hold the old file
        self._file_id = found

    def exists(self) -> bool:
        """Return whether the database is there and holds our table and Optuna's."""
        file = self.sqlite_file
        if file is not None:
            self.check_file_identity()
            if not file.exists() or file.stat().st_size == 0:
                return False
            return bool(self.read("SELECT 1 FROM sqlite_master WHERE name = 'pcan_trials'"))
        return bool(
            self.read("SELECT to_regclass('pcan_trials') IS NOT NULL AS there")[0]["there"]
        )

    def read(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run one query without waiting for writers; named parameters are `:name`.

        What only reads does so by the driver, which is there 0.2 s sooner than SQLAlchemy.
        """
        file = self.sqlite_file
        if file is None:
            return self._read_server(sql, values)
        with translate_errors(self):
            connection = sqlite3.connect(f"file:{_quoted(file)}?mode=ro", timeout=60, uri=True)
            connection.execute(f"PRAGMA busy_timeout={int(1000 * self.patience_s)}")
            try:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(sql, values)]
            finally:
                connection.close()

    def _read_server(self, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self._engine is None and is_plain(self.url):
            self._reader = self._reader or PostgresReader(self.url)
            with translate_errors(self):
                return self._reader.read(sql, values)
        import sqlalchemy as sa

        with translate_errors(self), self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(sql), values).mappings()]

    def now(self) -> float:
        """Return the database's clock, in seconds since 1970."""
        if self.sqlite_file is not None:
            return time.time()
        return float(self.read("SELECT extract(epoch FROM clock_timestamp()) AS now")[0]["now"])

    def clock(self) -> "sa.ColumnElement[float]":
        """Return `now` as an expression inside a statement: no question of its own."""
        import sqlalchemy as sa

        if self.sqlite_file is not None:
            return sa.literal(time.time(), sa.Float)
        return sa.literal_column("CAST(extract(epoch FROM clock_timestamp()) AS float8)", sa.Float)

    def close(self) -> None:
        """Close every connection."""
        self._close_reader()
        if self._rdb is not None:
            self._rdb.remove_session()
            self._rdb.engine.dispose()
            self._rdb = None
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def open_storage(url: str | None, runs: Path, create: bool = True) -> Storage:
    """Return the storage of a project.

    Args:
        url: a SQLAlchemy URL; None for `pcan.db` in the runs folder.
        runs: the project's runs folder; made, private to the user, if `create`.

    Raises:
        StorageError: the URL cannot be used, in words that name the part that is wrong.
    """
    if url is None:
        if create:
            runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        url = f"{_SQLITE}{runs / 'pcan.db'}"
    else:
        check_url(url)
    storage = Storage(url)
    file = storage.sqlite_file
    if file is not None:
        check_sqlite(file, storage.shown)
    return storage


def _quoted(file: Path) -> str:
    from urllib.parse import quote

    return quote(str(file.absolute()))
