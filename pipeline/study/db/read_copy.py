"""A storage for a command that only reads, also where the place of its file takes no writes.

SQLite makes a file beside a database (`-shm`) even to read it, which fails on a full disk, over a
quota and under a read-only mount. A copy is read there: what has been trained stays to be seen,
and `sweep clean` can make room.
"""

import atexit
import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import StorageError
from pipeline.study.db.sqlite import check_file
from pipeline.study.db.storage import Storage, open_storage, storage_of
from pipeline.study.db.urls import sqlite_url

#: What SQLite's shared memory takes at first.
_SHM_BYTES = 32768


def open_to_read(
    url: str | None,
    runs: Path,
    warn: Callable[[str], None] | None = None,
    create: bool = True,
    locked: bool = False,
) -> Storage:
    """Return a storage as `open_storage` does, or a private copy of it.

    Args:
        warn: takes the sentence that says that a copy is read.
        locked: of a copied storage the lock is taken, and kept until the process ends.

    Raises:
        StorageError: the URL or the file cannot be used.
    """
    storage = storage_of(url, runs)
    file = storage.sqlite_file
    problem = _refusal(file) if file is not None and os.path.isfile(file) else None
    if file is None or problem is None:
        return open_storage(url, runs, create)
    check_file(file, storage.shown, written=False)
    if locked:
        lock = contextlib.ExitStack()
        lock.enter_context(storage.lock())
        atexit.register(lock.close)
    copy = _copied(file, storage.shown, problem)
    if warn is not None:
        warn(f"{storage.shown} takes no writes ({problem}): a copy of it is read.")
    return _Copy(copy, storage.shown)


class _Copy(Storage):
    """A storage in a folder of its own, which goes with it."""

    def __init__(self, file: Path, shown: str) -> None:
        super().__init__(sqlite_url(file), shown)
        self._folder = file.parent
        atexit.register(self.close)

    def close(self) -> None:
        """Close every connection, and delete the copy."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _refusal(file: Path) -> str | None:
    """Return why SQLite could not make its file beside a database, None where it can."""
    if not os.access(file, os.W_OK, effective_ids=True):
        return "read-only"
    shm = _beside(file, "-shm")
    with contextlib.suppress(OSError):
        if shm.stat().st_size >= _SHM_BYTES and os.access(shm, os.W_OK, effective_ids=True):
            return None
    try:
        with tempfile.TemporaryFile(dir=file.parent) as stream:
            stream.write(bytes(_SHM_BYTES))
    except OSError as error:
        return error.strerror
    return None


def _copied(file: Path, shown: str, problem: str) -> Path:
    """Copy a database to the first folder for temporary files that has room."""
    reason: str | None = None
    for place in dict.fromkeys((os.environ.get("TMPDIR") or "/tmp", "/tmp", "/dev/shm")):
        try:
            folder = Path(tempfile.mkdtemp(prefix="pcan-read-", dir=place))
        except OSError as error:
            reason = reason or f"{place}: {error.strerror}"
            continue
        try:
            _copy(file, folder / file.name)
            return folder / file.name
        except (OSError, sqlite3.Error) as error:
            shutil.rmtree(folder, ignore_errors=True)
            reason = reason or f"{place}: {getattr(error, 'strerror', None) or error}"
    raise StorageError(
        f"{shown} takes no writes ({problem}), and there is no room for a copy to read "
        f"({reason}). Make room: df -h"
    )


def _copy(file: Path, target: Path) -> None:
    if _beside(file, "-shm").exists():  # another process may be writing
        with contextlib.suppress(sqlite3.Error):
            source = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)
            copy = sqlite3.connect(target)
            with contextlib.closing(source), contextlib.closing(copy):
                source.backup(copy)
            return
        target.unlink(missing_ok=True)
    for end in ("", "-wal"):
        if _beside(file, end).exists():
            shutil.copyfile(_beside(file, end), _beside(target, end))
    target.chmod(0o600)


def _beside(file: Path, end: str) -> Path:
    return file.with_name(file.name + end)
