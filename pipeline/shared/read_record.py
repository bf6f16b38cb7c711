"""What an answer was made from, so that it is kept for as long as that stays the same.

The process that works out an answer records the files it has read and the modules it has imported;
the one that keeps the answer compares the record with the disk. Files of the user are compared by
content, files of installed packages and large ones by size and time. Seen are the files that
Python opens and the folders it lists, also those that were looked for and are missing. A file that
a library opens by itself is not seen; whoever has one read names it (`SourceRecorder.add`).

Both sides use this module, so it keeps to Python 3.8 and the standard library.
"""

import hashlib
import os
import stat
import sys
import tempfile
import time
from typing import Any, Dict, List, Mapping, Optional, Set, Union

#: A digest for content or names, size and time (ns) for a file, None where there is nothing.
Mark = Union[str, List[int], None]

#: Larger files are compared by size and time.
LARGEST_DIGEST = 1 << 20
_MODULES = (".py", ".so", ".pth", ".zip", ".dist-info", ".egg-info", ".egg-link")
#: The mark of a file that was written while the answer was worked out: never found again.
_WRITTEN_MEANWHILE = "written meanwhile"
_SYSTEM = ("/proc", "/sys", "/dev")


class SourceRecorder:
    """Records what this process reads from now on; there is no way to stop it."""

    def __init__(self) -> None:
        self._files: Set[str] = set()
        self._folders: Set[str] = set()
        self._begun_ns = time.time_ns()
        sys.addaudithook(self._hook)

    def add(self, path: Any) -> None:
        """Record a file that a library is going to read by itself."""
        self._files.add(os.path.abspath(path))

    def record(self) -> Dict[str, Dict[str, Mark]]:
        """Return a mark for each file, importable names and listed folder, by path."""
        loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        files = self._files | {os.path.abspath(file) for file in loaded if file}
        searched = {os.path.abspath(folder) for folder in sys.path}
        own = {folder for folder in self._folders - searched if not _installed(folder)}
        return {
            "files": {file: self._mark(file) for file in sorted(files) if _counts(file)},
            "searched": {folder: _modules_mark(folder) for folder in sorted(searched)},
            "listed": {folder: _names_mark(folder) for folder in sorted(own) if _counts(folder)},
        }

    def _mark(self, file: str) -> Mark:
        try:
            if os.stat(file).st_ctime_ns > self._begun_ns:
                return _WRITTEN_MEANWHILE
        except OSError:
            return None
        return _file_mark(file, by_content=not _installed(file))

    def _hook(self, event: str, args: Any) -> None:
        """Note an opened file or a listed folder; called for every audit event of Python."""
        if event == "open":
            path, mode, flags = args
            writes = flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else False
            if not writes and not (isinstance(mode, str) and set(mode) & set("wax+")):
                _note(self._files, path)
        elif event in ("os.listdir", "os.scandir"):
            _note(self._folders, args[0])


def unchanged(record: Mapping[str, Mapping[str, Mark]]) -> bool:
    """Return whether everything of a record is as it was."""
    return (
        all(_mark_again(path, mark) == mark for path, mark in record["files"].items())
        and all(_modules_mark(path) == mark for path, mark in record["searched"].items())
        and all(_names_mark(path) == mark for path, mark in record["listed"].items())
    )


def _note(found: Set[str], path: Any) -> None:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, (str, os.PathLike)) and not str(path).endswith(".pyc"):
        found.add(os.path.abspath(str(path)))


def _installed(path: str) -> bool:
    """Whether a path belongs to the interpreter and its packages, or to pcan itself."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    roots = tuple(root + os.sep for root in (sys.prefix, sys.base_prefix, here))
    return path.startswith(roots) or "site-packages" in path or "dist-packages" in path


def _counts(path: str) -> bool:
    """Leave out the system's own files, and temporary ones that are gone with their folder."""
    if path.startswith(_SYSTEM):
        return False
    top, folder = tempfile.gettempdir(), os.path.dirname(path)
    if os.path.exists(path) or not path.startswith(top + os.sep):
        return True
    return folder != top and os.path.isdir(folder)


def _file_mark(path: str, by_content: bool) -> Mark:
    try:
        found = os.stat(path)
        if by_content and stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST_DIGEST:
            with open(path, "rb") as stream:
                return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _mark_again(path: str, mark: Mark) -> Mark:
    return _file_mark(path, by_content=not isinstance(mark, list))


def _modules_mark(folder: str) -> Optional[str]:
    """Return a digest of what can be imported from a folder of the search path."""
    if not os.path.isdir(folder):
        mark = _file_mark(folder, by_content=False)
        return None if mark is None else repr(mark)
    names = [
        entry.name
        for entry in _entries(folder)
        if entry.name.endswith(_MODULES)
        or (entry.name.isidentifier() and os.path.isfile(os.path.join(entry.path, "__init__.py")))
    ]
    return _digest(names)


def _names_mark(folder: str) -> Optional[str]:
    names = [e.name for e in _entries(folder) if e.name != "__pycache__" and e.name[:1] != "."]
    return _digest(names) if os.path.isdir(folder) else None


def _entries(folder: str) -> List[Any]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _digest(names: List[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode("utf-8", "replace")).hexdigest()
