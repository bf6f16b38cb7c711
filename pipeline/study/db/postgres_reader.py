"""Reading a PostgreSQL storage by its driver alone, for commands that only look.

SQLAlchemy would take as long to import as ten thousand trials take to read.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

#: For libpq, so that a server that is cut off does not hold up what runs here: seconds, and
#: milliseconds for the last.
PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

_PLAIN = re.compile(
    r"postgresql\+psycopg://(?:[\w.~%-]+(?::[\w.~%!*-]*)?@)?[\w.-]*(?::\d{1,5})?/[\w.-]+"
)
_NAMED = re.compile(r"(?<!:):(\w+)")


def is_plain(url: str) -> bool:
    """Whether libpq and SQLAlchemy read a URL alike: no options, no host in brackets."""
    return _PLAIN.fullmatch(url) is not None


class PostgresReader:
    """One connection to a server, made at the first question.

    Args:
        url: a plain one.
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

        kept = self._connection is not None
        try:
            return self._read(sql, values)
        except psycopg.OperationalError:
            self.close()
            if not kept:
                raise
        return self._read(sql, values)  # the server was restarted since the last question

    def _read(self, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        import psycopg
        from psycopg.conninfo import make_conninfo
        from psycopg.rows import dict_row

        if self._connection is None:
            info = make_conninfo(self._uri, **PATIENCE)
            self._connection = psycopg.connect(info, autocommit=True, row_factory=dict_row)
        query = _NAMED.sub(r"%(\1)s", sql).encode()
        with self._connection.cursor(binary=True) as cursor:
            return cursor.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()  # a command that only looked just ends
