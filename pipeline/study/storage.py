"""The study storage: Optuna's tables and our own in one database, opened safely.

SQLite gets what Optuna leaves out (write-ahead log, immediate transactions, a long busy
time-out): without them it hands one queued trial to several launchers. Whatever spans Optuna's
calls and ours is done under `Storage.lock`, which dies with its holder.
"""

import contextlib
import fcntl
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StorageError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from optuna.storages import RDBStorage

_SQLITE = "sqlite:///"

BUSY_TIMEOUT_S = 60
#: One number for every launcher on a PostgreSQL server: "pcan" in ASCII.
ADVISORY_LOCK = 0x7063616E


class Storage:
    """An open storage.

    Args:
        url: SQLAlchemy URL; the password in it is never shown.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: sa.Engine | None = None
        self._rdb: RDBStorage | None = None

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
    def engine(self) -> "sa.Engine":
        """An engine for our own SQL; writes begin immediate on SQLite."""
        if self._engine is None:
            with told(self):
                self._engine = _engine(self.url)
        return self._engine

    @property
    def rdb(self) -> "RDBStorage":
        """Optuna's storage on the same database; makes the tables on first use."""
        if self._rdb is None:
            with self.lock(), told(self):
                self._rdb = self._open_rdb()
        return self._rdb

    def _open_rdb(self) -> "RDBStorage":
        import optuna
        from optuna.storages import RDBStorage

        from pipeline.study.table import metadata

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        file = self.sqlite_file
        if file is not None and not file.exists():
            file.touch(mode=0o600)
        kwargs: dict[str, Any] = {}
        if file is not None:
            kwargs = {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            rdb = RDBStorage(self.url, engine_kwargs=kwargs)
        if file is not None:
            _prepare_sqlite(rdb.engine)
        metadata.create_all(self.engine)
        return rdb

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the storage's one lock across processes; released when the holder dies."""
        file = self.sqlite_file
        if file is None:
            with self._server_lock():
                yield
            return
        lock_file = file.with_name(file.name + ".lock")
        try:
            handle = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"The storage {self.shown} cannot be locked: {lock_file} "
                f"({error.strerror}). Check the folder, or name another: --storage URL"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _server_lock(self) -> Iterator[None]:
        import sqlalchemy as sa

        with told(self):
            connection = self.engine.connect()
        try:
            with told(self):
                connection.execute(sa.select(sa.func.pg_advisory_lock(ADVISORY_LOCK)))
            yield
        finally:
            connection.invalidate()  # ends the session, and with it the lock
            connection.close()

    def exists(self) -> bool:
        """Return whether the database is there and holds our table and Optuna's."""
        file = self.sqlite_file
        if file is not None:
            if not file.exists() or file.stat().st_size == 0:
                return False
            return bool(self.read("SELECT 1 FROM sqlite_master WHERE name = 'pcan_trials'"))
        import sqlalchemy as sa

        with told(self):
            return bool(sa.inspect(self.engine).has_table("pcan_trials"))

    def read(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Run one query without waiting for writers; named parameters are `:name`.

        SQLite is read by the standard library, which is there 0.2 s sooner than SQLAlchemy.
        """
        file = self.sqlite_file
        if file is None:
            return self._read_server(sql, values)
        with told(self):
            connection = sqlite3.connect(f"file:{_quoted(file)}?mode=ro", timeout=60, uri=True)
            try:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(sql, values)]
            finally:
                connection.close()

    def _read_server(self, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        import sqlalchemy as sa

        with told(self), self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(sql), values).mappings()]

    def now(self) -> float:
        """Return the database's clock, in seconds since 1970."""
        if self.sqlite_file is not None:
            return time.time()
        return float(self.read("SELECT extract(epoch FROM clock_timestamp()) AS now")[0]["now"])

    def close(self) -> None:
        """Close every connection."""
        if self._rdb is not None:
            self._rdb.remove_session()
            self._rdb.engine.dispose()
        if self._engine is not None:
            self._engine.dispose()


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
        _check_url(url)
    storage = Storage(url)
    file = storage.sqlite_file
    if file is not None:
        _check_sqlite(file, storage.shown)
    return storage


def _check_url(url: str) -> None:
    import sqlalchemy as sa

    try:
        made = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StorageError(
            f'"{mask(url)}" is not a storage URL. For a file write sqlite:///{Path(url).name}; '
            "for a server postgresql+psycopg://USER@HOST/DATABASE."
        ) from None
    if "{" in url or "}" in url:
        raise StorageError("Write { as %7B and } as %7D in the storage URL.")
    if made.drivername == "sqlite" and made.database in (None, "", ":memory:"):
        raise StorageError("A storage in memory is lost with the process; name a file.")
    if made.get_backend_name() not in ("sqlite", "postgresql"):
        raise StorageError(
            f'Storage of kind "{made.get_backend_name()}" is not supported; '
            "use sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE."
        )
    try:
        made.get_dialect().import_dbapi()
    except (ImportError, sa.exc.NoSuchModuleError):
        raise StorageError(
            f'There is no driver for "{made.drivername}". For PostgreSQL: '
            "pip install 'pcan[postgres]' and a URL that begins with postgresql+psycopg://"
        ) from None


def _check_sqlite(file: Path, shown: str) -> None:
    folder = file.parent
    if not folder.is_dir():
        if not folder.exists():
            raise StorageError(
                f'The folder "{folder}" of the storage {shown} does not exist. Make it, or '
                "name another: --storage URL"
            )
        raise StorageError(f'"{folder}", which should hold the storage, is not a folder.')
    if not file.exists():
        return
    with file.open("rb") as stream:
        head = stream.read(16)
    if head and head != b"SQLite format 3\x00":
        raise StorageError(f"{file} is not an SQLite database; name another: --storage URL")
    if not os.access(file, os.W_OK):
        raise StorageError(f"{file} is read-only. Mend its permissions, or name another storage.")


@contextlib.contextmanager
def told(storage: Storage) -> Iterator[None]:
    """Turn what the database layer raises into one sentence of ours."""
    try:
        yield
    except StorageError:
        raise
    except sqlite3.Error as error:
        raise StorageError(_sentence(storage, error)) from error
    except RuntimeError as error:
        if "version" not in str(error):
            raise
        raise StorageError(
            f"The storage {storage.shown} was made by another Optuna: {error} "
            "Make a copy first: pcan sweep backup"
        ) from error
    except Exception as error:
        if type(error).__name__ == "StorageInternalError":
            raise StorageError(_sentence(storage, error.__cause__ or error)) from error
        if type(error).__module__.startswith("sqlalchemy."):
            raise StorageError(_sentence(storage, error)) from error
        raise


def _sentence(storage: Storage, error: BaseException) -> str:
    text = mask(" ".join(str(getattr(error, "orig", None) or error).split()))
    lowered = text.lower()
    remedy = "Check the URL and the server, or name another storage: --storage URL"
    if "locked" in lowered or "busy" in lowered:
        remedy = (
            f"Another process has held it for {BUSY_TIMEOUT_S} s; end that one, then run again"
        )
    elif "readonly" in lowered or "read-only" in lowered:
        remedy = "It is read-only; mend its permissions or name another storage: --storage URL"
    elif "full" in lowered:
        remedy = "The disk is full; make room, then run again"
    return f"The storage {storage.shown} cannot be used: {text[:300]}. {remedy}."


def mask(text: str) -> str:
    """Hide passwords of URLs, also those given as query parameters."""
    text = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|sslpassword|token|key)=)[^&\s]*", r"\1***", text)


def _quoted(file: Path) -> str:
    from urllib.parse import quote

    return quote(str(file.absolute()))


def _engine(url: str) -> "sa.Engine":
    import sqlalchemy as sa

    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    _prepare_sqlite(engine)
    return engine


def _prepare_sqlite(engine: "sa.Engine") -> None:
    """Give every connection of an SQLite engine the write-ahead log and immediate writes."""
    import sqlalchemy as sa

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute(f"PRAGMA busy_timeout={1000 * BUSY_TIMEOUT_S}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: "sa.Connection") -> None:
        # A read that later writes would fail at once where another has written in between.
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    engine.dispose()
