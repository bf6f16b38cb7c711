"""`pcan sweep backup`: copy a storage while it is in use."""

import os
import sqlite3
from pathlib import Path

from pipeline.errors import StorageError
from pipeline.study.db.storage import Storage


def backup(storage: Storage, target: Path) -> int:
    """Write a complete copy of an SQLite storage; launches may go on meanwhile.

    Returns:
        The size of the copy in bytes.

    Raises:
        StorageError: the storage is a server's or missing, or the copy cannot be written.
    """
    file = storage.sqlite_file
    if file is None:
        raise StorageError(
            f"{storage.shown} is a server's database; copy it with the server's own tool: pg_dump"
        )
    if not file.is_file():
        raise StorageError(f"There is no storage {file} to copy.")
    if target.is_dir():
        raise StorageError(f"{target} is a folder. Name the file of the copy: --out FILE")
    if target.exists() and target.samefile(file):
        raise StorageError(f"{target} is the storage itself. Name another file: --out FILE")
    part = target.with_name(f".{target.name}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
        with storage.errors_translated():
            _copy(file, part)
        os.replace(part, target)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def _copy(file: Path, target: Path) -> None:
    source, copy = sqlite3.connect(file, timeout=60), sqlite3.connect(target)
    try:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, no write-ahead log
    finally:
        copy.close()
        source.close()
