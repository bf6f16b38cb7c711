"""What is wrong with the file of a storage, and keeping a bad one aside."""

import contextlib
import datetime
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import StorageError

HEAD = b"SQLite format 3\x00"
#: What SQLite keeps beside a file; `-journal` only in a mode that is not ours.
SIDE_FILES = ("-wal", "-shm", "-journal")
_SQLITE_CORRUPT, _SQLITE_NOTADB = 11, 26
#: Parts of messages that SQLite gives no code of its own.
_SIGNS = ("malformed", "not a database", "unsupported file format", "corrupt", "decode to utf-8")


def is_damage(text: str) -> bool:
    """Return whether an error's text, in lower case, says that the file itself is bad."""
    return any(sign in text for sign in _SIGNS)


def damage_of(file: Path, thorough: bool = False) -> str | None:
    """Return what is wrong with a storage's file, None if it is sound, empty or missing.

    Args:
        thorough: check the indexes against their tables, too.

    Raises:
        OSError, sqlite3.Error: it cannot be looked at.
    """
    if file.is_dir():
        return "it is a folder"
    if not file.exists() or file.stat().st_size == 0:
        return None
    with file.open("rb") as stream:
        if stream.read(len(HEAD)) != HEAD:
            return "it is not an SQLite database"
    uri = f"file:{quote(str(file.absolute()))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, timeout=60, uri=True)) as connection:
            check = "integrity_check" if thorough else "quick_check"
            (answer,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite3.Error as error:
        code = (error.sqlite_errorcode or 0) & 0xFF
        if code not in (_SQLITE_CORRUPT, _SQLITE_NOTADB) and not is_damage(str(error).lower()):
            raise
        return str(error)
    return None if answer == "ok" else str(answer)


def put_aside(file: Path) -> Path:
    """Rename a storage's file, and what SQLite keeps beside it; return its new name.

    Raises:
        StorageError: the folder cannot be written.
    """
    now = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    names = (f"{file.name}.damaged-{now}{more}" for more in ("", *(f"-{n}" for n in range(2, 99))))
    aside = next(f for f in map(file.with_name, names) if not os.path.lexists(f))
    try:
        # First what belongs to it: SQLite would take a left-over log for a new file's own.
        for side in SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{file}{side}", f"{aside}{side}")
        os.rename(file, aside)
    except OSError as error:
        raise StorageError(
            f"{file} cannot be renamed to {aside.name}: {error.strerror}. Fix the permissions of "
            "the folder, then run again."
        ) from None
    return aside
