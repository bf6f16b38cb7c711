"""A storage on a PostgreSQL server.

A command that only reads uses the driver alone: SQLAlchemy costs 0.25 to 0.3 s of CPU at import,
with which `pcan sweep status` would miss its half second.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.shared.files import shell_word
from pipeline.study.db.busy_timeout import busy_timeout_s
from pipeline.study.db.db_errors import DEFAULT_REMEDY
from pipeline.study.db.urls import is_plain

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

#: For libpq, so that a server that is cut off does not hold up the launch: seconds, and
#: milliseconds for the last. Without them a lost network leaves the client waiting for a quarter
#: of an hour, and its launch could neither judge a trial nor see that it was replaced.
CONNECT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
#: One number for every launcher on a server: "pcan" in ASCII.
ADVISORY_LOCK = 0x7063616E

_PASSWORD = (
    "Give the password in PGPASSWORD, or in a file of mode 0600 that PGPASSFILE names, or in "
    "~/.pgpass: HOST:PORT:DATABASE:USER:PASSWORD"
)
#: Part of the driver's message -> what to do about it.
_REMEDIES = (
    ("password authentication failed", f"The password is wrong. {_PASSWORD}"),
    ("no password supplied", _PASSWORD),
    ("does not exist", "Make it, or correct its name in the URL"),
    ("translate host name", "Correct the host's name in the URL"),
    ("resolve host", "Correct the host's name in the URL"),
    ("connection refused", "Is the server up, and is the port in the URL its own?"),
    ("timeout expired", "Is the server reachable from here? A firewall may be in between"),
    ("no pg_hba.conf entry", "Its administrator has to let this host in (pg_hba.conf)"),
    ("too many clients", "It has no connection left; raise its max_connections"),
)
_NAMED = re.compile(r"(?<!:):(\w+)")


class PostgresBackend:
    """How a storage on a server is reached.

    Args:
        url: of SQLAlchemy; it may override `CONNECT_OPTIONS`.
    """

    file = None

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: sa.Engine | None = None
        self._reader = _Reader(url) if is_plain(url) else None

    @property
    def host(self) -> str | None:
        """The server's name in the URL, None for a local socket."""
        import sqlalchemy as sa

        return sa.make_url(self.url).host

    @property
    def engine(self) -> "sa.Engine":
        """The engine for our own SQL."""
        if self._engine is None:
            import sqlalchemy as sa

            self._close_reader()  # one connection is enough
            # One idle connection a launch; a server counts them.
            pool = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 4}
            connect_args = self.engine_options()["connect_args"]
            self._engine = sa.create_engine(self.url, connect_args=connect_args, **pool)
        return self._engine

    def engine_options(self) -> dict[str, Any]:
        """Return the keyword arguments of Optuna's engine: no connection is kept for it."""
        import sqlalchemy as sa

        made = sa.make_url(self.url)
        options: dict[str, Any] = {}
        if made.get_driver_name() in ("psycopg", "psycopg2"):
            options = {k: v for k, v in CONNECT_OPTIONS.items() if k not in made.query}
        return {"connect_args": options, "poolclass": sa.pool.NullPool}

    def create(self) -> None:
        """Do nothing: the database is its administrator's to make."""

    def prepare(self, engine: "sa.Engine") -> None:
        """Do nothing: a server needs no settings a connection."""

    def check_identity(self) -> bool:
        """Return False: a server's connections end when its database is replaced."""
        return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a lock of the server's for one session, which dies with its holder."""
        import sqlalchemy as sa

        connection = self.engine.connect()
        try:
            connection.exec_driver_sql(f"SET lock_timeout = {int(1000 * busy_timeout_s())}")
            connection.execute(sa.select(sa.func.pg_advisory_lock(ADVISORY_LOCK)))
            yield
        finally:
            connection.invalidate()  # ends the session, and with it the lock
            connection.close()

    def existing_tables(self, names: Collection[str]) -> set[str]:
        """Return which of these tables the database has."""
        columns = ", ".join(f"to_regclass('{name}') IS NOT NULL AS {name}" for name in names)
        (row,) = self.read(f"SELECT {columns}", {})
        return {name for name, there in row.items() if there}

    def read(self, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run one query; by the driver alone until the engine is needed for something else."""
        if self._engine is None and self._reader is not None:
            return self._reader.read(sql, values)
        import sqlalchemy as sa

        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(sql), values).mappings()]

    def now(self) -> float:
        """Return the server's clock, in seconds since 1970."""
        return float(
            self.read("SELECT extract(epoch FROM clock_timestamp()) AS now", {})[0]["now"]
        )

    def clock(self) -> "sa.ColumnElement[float]":
        """Return `now` as an expression inside a statement."""
        import sqlalchemy as sa

        return sa.literal_column("CAST(extract(epoch FROM clock_timestamp()) AS float8)", sa.Float)

    def remedy(self, error: str) -> str:
        """Return what to do about an error, given the driver's text in lower case."""
        if "password" in error:
            ignored = _ignored_password_file()
            if ignored is not None:
                return (
                    f"{ignored} can be read by others, so it is ignored. Run: chmod 600 "
                    f"{shell_word(ignored)}"
                )
        return next((cure for sign, cure in _REMEDIES if sign in error), DEFAULT_REMEDY)

    def close(self) -> None:
        """Close every connection."""
        self._close_reader()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()


class _Reader:
    """One connection of the driver's to a server, made at the first query.

    Args:
        url: one that libpq and SQLAlchemy read alike.
    """

    def __init__(self, url: str) -> None:
        self._uri = url.replace("+psycopg", "", 1)
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def read(self, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run one query; named parameters are `:name`.

        Raises:
            psycopg.Error: the server does not answer, or refuses.
        """
        import psycopg

        reused = self._connection is not None
        try:
            return self._read(sql, values)
        except psycopg.OperationalError:
            self.close()
            if not reused:
                raise
        return self._read(sql, values)  # the server was restarted since the last query

    def _read(self, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        import psycopg
        from psycopg.conninfo import make_conninfo
        from psycopg.rows import dict_row

        if self._connection is None:
            info = make_conninfo(self._uri, **CONNECT_OPTIONS)
            self._connection = psycopg.connect(info, autocommit=True, row_factory=dict_row)
        query = _NAMED.sub(r"%(\1)s", sql).encode()
        with self._connection.cursor(binary=True) as cursor:
            return cursor.execute(query, values).fetchall()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()  # a command that only reads just ends


def _ignored_password_file() -> Path | None:
    """Return the password file that the driver does not read for its permissions."""
    file = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    try:
        return file if file.stat().st_mode & 0o077 else None
    except OSError:
        return None
