"""A storage in an SQLite file: how it is opened and locked, and what is wrong with a bad one.

SQLite gets what Optuna leaves out (write-ahead log, immediate transactions, a long busy
time-out): without them it hands one queued trial to several launchers.

The lock across processes is `flock` on a file of its own, which the kernel releases when its
holder dies. The package `filelock` is not used: where flock is missing it falls back to marker
files that outlive a killed holder, and importing it takes 0.1 s.
"""

import contextlib
import datetime
import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.errors import StorageError
from pipeline.shared.files import shell_word
from pipeline.study.db.busy_timeout import busy_timeout_s
from pipeline.study.db.db_errors import DEFAULT_REMEDY
from pipeline.study.db.urls import URL_PREFIX, sqlite_path

if TYPE_CHECKING:
    import sqlalchemy as sa

MOUNTS = Path("/proc/self/mountinfo")
HEAD = b"SQLite format 3\x00"
#: What SQLite keeps beside a file; `-journal` only in a mode that is not ours.
SIDE_FILES = ("-wal", "-shm", "-journal")
_SQLITE_CORRUPT, _SQLITE_NOTADB = 11, 26
#: Parts of messages that SQLite gives no code of its own.
_SIGNS = ("malformed", "not a database", "unsupported file format", "corrupt", "decode to utf-8")

_NETWORK = re.compile(
    r"^(nfs\d?|cifs|smb\d?|smbfs|afs|lustre|gpfs|beegfs|ceph|glusterfs|pvfs2|orangefs|panfs|"
    r"wekafs|dvs|quobyte|fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse|rclone|juicefs|beegfs|nfs|"
    r"wekafs|quobyte|daos|dfuse|mfs|lizardfs))"
)


class SqliteBackend:
    """How a storage in a file is reached.

    Args:
        url: of `sqlite_url`'s form.
        shown: its name in messages.
    """

    host = None

    def __init__(self, url: str, shown: str) -> None:
        self.url = url
        self._shown = shown
        self._rebuild = rebuild_remedy(shown)
        self.file = sqlite_path(url)
        self._file_id: tuple[int, int] | None = None
        self._engine: sa.Engine | None = None

    @property
    def engine(self) -> "sa.Engine":
        """The engine for our own SQL; a write begins with a lock."""
        if self._engine is None:
            import sqlalchemy as sa

            self._engine = sa.create_engine(self.url, **self.engine_options())
            self.prepare(self._engine)
        return self._engine

    def engine_options(self) -> dict[str, Any]:
        """Return the keyword arguments of an engine, ours or Optuna's."""
        return {"connect_args": {"timeout": busy_timeout_s()}}

    def create(self) -> None:
        """Make the file, private to the user, if it is missing."""
        if not self.file.exists():
            self.file.touch(mode=0o600)

    def prepare(self, engine: "sa.Engine") -> None:
        """Give every connection of an engine the write-ahead log and immediate writes."""
        import sqlalchemy as sa

        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # BEGIN is written below
            cursor = connection.cursor()
            cursor.execute(_busy_timeout())
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.close()

        @sa.event.listens_for(engine, "checkout")
        def _checkout(connection: Any, record: Any, _: Any) -> None:
            if record.info.get("busy_timeout_s") != busy_timeout_s():
                connection.execute(_busy_timeout())
                record.info["busy_timeout_s"] = busy_timeout_s()

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            # A read that later writes would fail at once where another has written in between.
            reading = connection.get_execution_options().get("reading", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        engine.dispose()

    def check_identity(self) -> bool:
        """Return whether the file was replaced since the last call: its connections are stale.

        SQLite would go on writing into a deleted file and lose everything with the process.

        Raises:
            StorageError: the file was there before and is gone.
        """
        try:
            stat = self.file.stat()
        except OSError as error:
            if self._file_id is None:
                return False
            raise StorageError(
                f"The storage {self._shown} is gone ({error.strerror}). {self._rebuild}."
            ) from None
        before, self._file_id = self._file_id, (stat.st_dev, stat.st_ino)
        return before not in (None, self._file_id)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock a file beside the database.

        Raises:
            StorageError: it cannot be made, or another process keeps it too long.
        """
        lock_file = self.file.with_name(self.file.name + ".lock")
        try:
            handle = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"The storage {self._shown} cannot be locked: {lock_file} "
                f"({error.strerror}). Check the folder, or name another: --storage URL"
            ) from None
        try:
            self._wait_for(handle)
            yield
        finally:
            os.close(handle)

    def _wait_for(self, handle: int) -> None:
        timeout_s = busy_timeout_s()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"Another launch has kept the storage {self._shown} locked for "
                        f"{timeout_s:g} s. Is it stopped? End it, then run again."
                    ) from None
                time.sleep(0.02)
            except OSError as error:  # ENOSYS or ENOLCK, such as Lustre mounted without flock
                raise StorageError(
                    f"The storage {self._shown} cannot be locked: its file system gives no locks "
                    f"({error.strerror}). Name one on a local disk, or a server: --storage URL"
                ) from None

    def existing_tables(self, names: Collection[str]) -> set[str]:
        """Return which of these tables the database has."""
        if not self.file.exists() or self.file.stat().st_size == 0:
            return set()
        rows = self.read("SELECT name FROM sqlite_master WHERE type = 'table'", {})
        return {row["name"] for row in rows} & set(names)

    def read(self, sql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run one query on a connection of its own, without waiting for writers."""
        path = quote(str(self.file.absolute()))
        connection = sqlite3.connect(f"file:{path}?mode=ro", timeout=60, uri=True)
        connection.execute(_busy_timeout())
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()

    def now(self) -> float:
        """Return this machine's clock, in seconds since 1970: all users of the file are here."""
        return time.time()

    def clock(self) -> "sa.ColumnElement[float]":
        """Return `now` as an expression inside a statement."""
        import sqlalchemy as sa

        return sa.literal(time.time(), sa.Float)

    def remedy(self, error: str) -> str:
        """Return what to do about an error, given its text in lower case."""
        if "locked" in error or "busy" in error:
            return (
                f"Another process has held it for {busy_timeout_s():g} s; if that process hangs, "
                "end it"
            )
        if "readonly" in error or "read-only" in error:
            return "It is read-only; fix its permissions or name another storage: --storage URL"
        if "full" in error or "no space" in error:
            return "The disk is full; make room, then run again"
        if "disk i/o error" in error:
            return (
                f"Its disk is full, over a quota, or fails: df -h {shell_word(self.file.parent)}"
            )
        if "no such table" in error:
            return f"It is empty or another one. {self._rebuild}"
        return f"It is damaged. {self._rebuild}" if is_damage(error) else DEFAULT_REMEDY

    def close(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def rebuild_remedy(shown: str) -> str:
    """Return how to get a storage back whose file is bad or gone.

    Args:
        shown: its URL, or its path if it is the project's own.
    """
    option = f" --storage {shell_word(shown)}" if shown.startswith(URL_PREFIX) else ""
    return (
        "Put a copy of pcan sweep backup in its place, or refill a new one from the run "
        f"directories, which keeps a bad file aside: pcan doctor --rebuild{option}"
    )


def _busy_timeout() -> str:
    return f"PRAGMA busy_timeout={int(1000 * busy_timeout_s())}"


def check_file(file: Path, shown: str, written: bool = True) -> None:
    """Refuse a file that cannot be, or become, our SQLite database.

    Raises:
        StorageError: the folder is missing or on a network file system, the file is not a
            database, or it is read-only although it is to be `written`.
    """
    folder = file.parent
    kind = network_kind(file)
    if kind is not None:
        raise StorageError(
            f"{shown} is on a network file system ({kind}), where SQLite's locks do not hold "
            "and launches would overwrite each other. Use a local folder or a server: --storage "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    if not folder.exists():
        raise StorageError(
            f'The folder "{folder}" of the storage {shown} does not exist. Make it, or '
            "name another: --storage URL"
        )
    if not folder.is_dir():
        raise StorageError(f'"{folder}", which should hold the storage, is not a folder.')
    own = not shown.startswith(URL_PREFIX)
    try:
        if not file.exists():
            return
        if own and file.is_dir():
            raise StorageError(f"{shown} is a folder. {rebuild_remedy(shown)}.")
        with file.open("rb") as stream:
            head = stream.read(len(HEAD))
    except OSError as error:
        raise StorageError(
            f"{shown} cannot be opened: {error.strerror}. Fix it, or name another: --storage URL"
        ) from None
    if head and head != HEAD:
        # A file that the user names may be anything, and is not offered to be renamed.
        remedy = rebuild_remedy(shown) if own else "Name another: --storage URL"
        raise StorageError(f"{shown} is not an SQLite database. {remedy}.")
    if written and not os.access(file, os.W_OK, effective_ids=True):
        raise StorageError(f"{shown} is read-only. Fix its permissions, or name another storage.")


def network_kind(path: Path, mounts: str | None = None) -> str | None:
    """Return the kind of network file system a path is on, None for a local one.

    Args:
        path: need not exist.
        mounts: the kernel's list of mounts, for tests; None reads it.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text()
        except OSError:
            return None
    real = os.path.realpath(path)
    best, best_kind = "", ""
    for line in mounts.splitlines():
        place, kind = _mount(line)
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):  # a later mount hides an earlier one
            best, best_kind = place, kind
    return best_kind if _NETWORK.match(best_kind) else None


def _mount(line: str) -> tuple[str, str]:
    """Return the place and the type of a line of mountinfo; "" for one of another form."""
    before, sign, after = line.partition(" - ")
    fields = before.split(" ")
    if not sign or len(fields) < 5:
        return "\0", ""
    place = re.sub(r"\\(\d{3})", lambda m: chr(int(m.group(1), 8)), fields[4])
    return place, after.split(" ")[0]


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
