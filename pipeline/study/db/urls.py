"""Storage URLs: which can be used, and how they are shown without their secrets."""

import importlib.util
import os
import re
from pathlib import Path

from pipeline.errors import StorageError
from pipeline.study.db.filesystem import network_kind
from pipeline.study.db.postgres_reader import is_plain


def mask(text: str) -> str:
    """Hide passwords of URLs, also those given as query parameters."""
    text = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|sslpassword|token|key)=)[^&\s]*", r"\1***", text)


def check_url(url: str) -> None:
    """Refuse a URL that names no storage of a kind we can use.

    Raises:
        StorageError: in words that name the part that is wrong.
    """
    if is_plain(url) and importlib.util.find_spec("psycopg") is not None:
        return
    import sqlalchemy as sa

    try:
        made = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # the latter for a port that is no number
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


def check_sqlite(file: Path, shown: str) -> None:
    """Refuse a file that cannot be, or become, our SQLite database.

    Raises:
        StorageError: the folder is missing or on a network, the file is no database or read-only.
    """
    folder = file.parent
    kind = network_kind(file)
    if kind is not None:
        raise StorageError(
            f"{shown} lies on a network file system ({kind}), where SQLite's locks do not hold "
            "and launches would overwrite each other. Use a local folder or a server: --storage "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    if not folder.is_dir():
        if not folder.exists():
            raise StorageError(
                f'The folder "{folder}" of the storage {shown} does not exist. Make it, or '
                "name another: --storage URL"
            )
        raise StorageError(f'"{folder}", which should hold the storage, is not a folder.')
    try:
        if not file.exists():
            return
        with file.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise StorageError(
            f"{shown} cannot be opened: {error.strerror}. Mend it, or name another: --storage URL"
        ) from None
    if head and head != b"SQLite format 3\x00":
        raise StorageError(f"{file} is not an SQLite database; name another: --storage URL")
    if not os.access(file, os.W_OK, effective_ids=True):
        raise StorageError(f"{file} is read-only. Mend its permissions, or name another storage.")
