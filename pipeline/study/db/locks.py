"""The storage's one lock across processes; it dies with its holder."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import StorageError
from pipeline.study.db.db_errors import translate_errors

if TYPE_CHECKING:
    from pipeline.study.db.storage import Storage

#: One number for every launcher on a PostgreSQL server: "pcan" in ASCII.
ADVISORY_LOCK = 0x7063616E


@contextlib.contextmanager
def file_lock(storage: "Storage", file: Path) -> Iterator[None]:
    """Lock a file beside the database.

    Raises:
        StorageError: it cannot be made, or another process keeps it too long.
    """
    lock_file = file.with_name(file.name + ".lock")
    try:
        handle = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"The storage {storage.shown} cannot be locked: {lock_file} "
            f"({error.strerror}). Check the folder, or name another: --storage URL"
        ) from None
    try:
        _wait_for(handle, storage)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int, storage: "Storage") -> None:
    deadline = time.monotonic() + storage.patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageError(
                    f"Another launch has kept the storage {storage.shown} to itself for "
                    f"{storage.patience_s:g} s. Is it stopped? End it, then run again."
                ) from None
            time.sleep(0.02)


@contextlib.contextmanager
def server_lock(storage: "Storage") -> Iterator[None]:
    """Hold a lock of the server's for one session.

    Raises:
        StorageError: the server does not answer, or another session keeps it too long.
    """
    import sqlalchemy as sa

    with translate_errors(storage):
        connection = storage.engine.connect()
    try:
        with translate_errors(storage):
            wait_ms = int(1000 * storage.patience_s)
            connection.exec_driver_sql(f"SET lock_timeout = {wait_ms}")
            connection.execute(sa.select(sa.func.pg_advisory_lock(ADVISORY_LOCK)))
        yield
    finally:
        connection.invalidate()  # ends the session, and with it the lock
        connection.close()
