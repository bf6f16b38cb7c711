"""Small files that two processes meet in: replaced whole, or grown by whole lines.

A writer may be killed at any byte and a reader may come at any moment, so what is torn is left
out and what is replaced is seen old or new. Jobs use this module too: it keeps to Python 3.8 and
the standard library.
"""

import contextlib
import ctypes
import datetime
import errno
import json
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Optional, Union

#: Of the kernel's call renameat2.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class FormatError(ValueError):
    """A file cannot be used as it is: damaged, or of a newer version. A text for the user."""


def check_schema(record: Mapping[str, Any], newest: int, source: object) -> None:
    """Refuse a record that a newer version of pcan has written.

    Raises:
        FormatError: its `schema` is above `newest`, or is not a number.
    """
    schema = record.get("schema", 1)
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise FormatError(f"{source} cannot be used: schema is {schema!r}, not a whole number.")
    if schema > newest:
        raise FormatError(
            f"{source} was written by a newer pcan (schema {schema}; this one reads up to "
            f"{newest}). Use that version, or a later one."
        )


def read_lines(path: Path) -> List[str]:
    """Return the whole lines of a file that may be missing or still growing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def read_objects(path: Path) -> List[Dict[str, Any]]:
    """Return the JSON objects of a file of lines, leaving out other lines."""
    return [record for record in map(parsed, read_lines(path)) if isinstance(record, dict)]


def parsed(text: Union[str, bytes]) -> Any:
    """Return the JSON value of a text, or None if it is not JSON (or nested too deep)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_json(path: Path, newest: int = 1) -> Optional[Dict[str, Any]]:
    """Return a JSON object, or None if the file is missing or does not hold one.

    Raises:
        FormatError: the object has a `schema` above `newest`.
    """
    try:
        with open(path, "rb") as stream:  # `status` asks this of every trial
            record = parsed(stream.read())
    except FileNotFoundError:
        return None
    if not isinstance(record, dict):
        return None
    check_schema(record, newest, path)
    return record


def write_json(path: Path, record: Dict[str, Any], durable: bool = True) -> None:
    """Replace `path` by `record` so that a reader sees the old or the new, never half.

    Args:
        durable: also flush to the disk before the rename (not needed for progress).
    """
    write_text(path, json.dumps(record, indent=1) + "\n", durable)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Replace `path` by `text` by a temporary file in the same folder."""
    write_bytes(path, text.encode("utf-8"), durable)


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace `path` by `data`; see `write_text`."""
    with replacing(path, durable) as stream:
        stream.write(data)


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of `path` once it is whole.

    A reader, or a power cut if `durable`, finds the old file or the new one, never half; after an
    error the old one stands and nothing else is left.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=str(path.parent))
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, str(path))
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if durable:
        fsync_folder(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, readable for others, that takes the place of `path`.

    A reader finds the old folder or the new one, never a mixture; after an error the old one
    stands and nothing else is left.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=str(path.parent)))
    try:
        yield fresh
        fresh.chmod(0o755)
        _put_in_place(fresh, path)
    finally:
        shutil.rmtree(str(fresh), ignore_errors=True)  # the old one, if the two were exchanged


def _put_in_place(fresh: Path, path: Path) -> None:
    """Rename a folder, in one step also where the kernel has to exchange it with an older one."""
    try:
        os.rename(str(fresh), str(path))
        return
    except OSError as error:  # there is one already, or another process was faster
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(str(fresh)), os.fsencode(str(path))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        shutil.rmtree(str(path))  # a file system without exchange: the old one goes first
        os.rename(str(fresh), str(path))


def timestamp() -> str:
    """Return the present moment in ISO 8601 with its offset, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def moment(time: Optional[str]) -> Optional[float]:
    """Return the seconds since 1970 of a `timestamp()`, None of what is not one."""
    try:
        return datetime.datetime.fromisoformat(time).timestamp() if time else None
    except ValueError:
        return None


def append_line(path: Path, line: str) -> None:
    """Append one whole line and flush it to the disk.

    A torn last line, left by a writer that was killed, is ended first, so that it can
    never swallow the new line.
    """
    with open(str(path), "ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(line.rstrip("\n").encode("utf-8") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user only.

    `Path.mkdir(mode=..., parents=True)` gives the mode to the last one alone.
    """
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def shell_word(text: object) -> str:
    """Return a path as it is typed in a shell: quoted, and never taken for an option."""
    word = str(text)
    return shlex.quote(f"./{word}" if word.startswith("-") else word)


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
