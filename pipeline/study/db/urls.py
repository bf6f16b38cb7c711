"""Storage URLs: which can be used, and how they are shown without their secrets."""

import importlib.util
import re
from pathlib import Path

from pipeline.errors import StorageError

_PLAIN = re.compile(
    r"postgresql\+psycopg://(?:[\w.~%-]+(?::[\w.~%!*-]*)?@)?[\w.-]*(?::\d{1,5})?/[\w.-]+"
)


def is_plain(url: str) -> bool:
    """Return whether libpq and SQLAlchemy read a URL alike: no options, no host in brackets."""
    return _PLAIN.fullmatch(url) is not None


def mask(text: str) -> str:
    """Hide passwords of URLs, also those given as query parameters."""
    text = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|sslpassword|token|key)=)[^&\s]*", r"\1***", text)


def check_url(url: str) -> None:
    """Refuse a URL that does not name a file or a server that can hold a storage.

    Raises:
        StorageError: in words that name the part that is wrong.
    """
    if is_plain(url) and importlib.util.find_spec("psycopg") is not None:
        return
    import sqlalchemy as sa

    try:
        made = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # the latter for a port that is not a number
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
