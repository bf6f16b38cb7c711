"""Storage URLs: which can be used, and how they are shown without their secrets.

SQLAlchemy decodes the path of a URL since 2.1, so a file's name stands in it encoded and is never
pasted: `?`, `%20` and `{b}` are letters of names that users have.
"""

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from pipeline.errors import StorageError

if TYPE_CHECKING:
    import sqlalchemy as sa

URL_PREFIX = "sqlite:///"

_USER = r"(?:[\w.~-]|%[0-9A-Fa-f]{2})+"
_PASSWORD = r"(?:[\w.~!*-]|%[0-9A-Fa-f]{2})*"
_PLAIN = re.compile(
    rf"postgresql\+psycopg://(?:{_USER}(?::{_PASSWORD})?@)?[\w.-]*(?::\d{{1,5}})?/[\w.-]+"
)
_ENCODED = "@ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25, a space as %20"


def sqlite_url(file: Path) -> str:
    """Return the URL of a database file."""
    return URL_PREFIX + quote(str(file))


def sqlite_path(url: str) -> Path:
    """Return the file that a URL of `sqlite_url`'s form names."""
    return Path(unquote(url.removeprefix(URL_PREFIX).split("?", 1)[0]))


def is_plain(url: str) -> bool:
    """Return whether libpq and SQLAlchemy read a URL alike: no options, no host in brackets."""
    return _PLAIN.fullmatch(url) is not None


def mask(text: str) -> str:
    """Hide passwords of URLs, also those given as query parameters."""
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|sslpassword|token|key)=)[^&\s]*", r"\1***", text)


def checked_url(url: str) -> str:
    """Return a URL in the form that all who read it here understand alike.

    Raises:
        StorageError: it does not name a file or a server that can hold a storage, in words that
            name the part that is wrong.
    """
    if is_plain(url) and importlib.util.find_spec("psycopg") is not None:
        return url
    made = _parsed(url)
    if made.get_backend_name() == "sqlite":
        _refuse_sqlite_options(made, url)
        options = f"?{url.partition('?')[2]}" if made.query else ""
        return sqlite_url(Path(str(made.database))) + options
    if made.get_backend_name() != "postgresql":
        raise StorageError(
            f'Storage of kind "{made.get_backend_name()}" is not supported; '
            "use sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE."
        )
    if "@" in (made.host or ""):
        raise StorageError(
            f"The storage URL {mask(url)} has more than one @, so its host is not known. In the "
            f"user, password and database write {_ENCODED}."
        )
    _refuse_missing_driver(made)
    # Optuna fills in {...} of a URL; encoded, they are letters like others.
    return made.render_as_string(hide_password=False) if set("{}") & set(url) else url


def _parsed(url: str) -> "sa.URL":
    import sqlalchemy as sa

    if re.search(r"\s", url) and not url.startswith("sqlite"):
        raise StorageError(f"The storage URL has a space in it. Write {_ENCODED}.")
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # the latter for a port that is not a number
        raise StorageError(
            f'"{mask(url)}" is not a storage URL. For a file write {URL_PREFIX}'
            f"{quote(Path(url).name)}; for a server postgresql+psycopg://USER@HOST/DATABASE, "
            f"{_ENCODED}."
        ) from None


def _refuse_sqlite_options(made: "sa.URL", url: str) -> None:
    if made.database in (None, "", ":memory:"):
        raise StorageError("A storage in memory is lost with the process; name a file.")
    if made.host:
        raise StorageError(
            f"{mask(url)} names a host; a file needs three slashes: {URL_PREFIX}FILE, four for a "
            "path from the root."
        )
    options = url.partition("?")[2]
    if "?" in url and (not all("=" in part for part in options.split("&")) or "uri" in made.query):
        raise StorageError(
            f'"?{mask(options)}" in the storage URL is not an option of a file\'s. If the ? '
            f"belongs to the name, write it as %3F: {sqlite_url(Path(unquote(url.partition(':///')[2])))}"
        )


def _refuse_missing_driver(made: "sa.URL") -> None:
    import sqlalchemy as sa

    try:
        made.get_dialect().import_dbapi()
    except (ImportError, sa.exc.NoSuchModuleError):
        raise StorageError(
            f'There is no driver for "{made.drivername}". For PostgreSQL: '
            "pip install 'pcan[postgres]' and a URL that begins with postgresql+psycopg://"
        ) from None
