"""Find the newest training log below a folder, so that nobody has to type a time stamp."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.diagnose.trial import is_trial
from pipeline.errors import InputError

_PATTERNS = ("*.log", "scalars.json", "*.log.json", "measurements.jsonl")
_TIME = re.compile(r"\d{8}_\d{6}$")
#: A folder with more files than this is no work dir; the search ends there.
_MOST_FILES = 50_000


def newest_work_dir(folder: Path) -> Path:
    """Return the work dir (or run directory) below `folder` that was written to last.

    Raises:
        InputError: there is no log below it.
    """
    if folder.is_file():
        return folder
    newest: tuple[float, Path] | None = None
    for path in itertools.islice(_below(folder), _MOST_FILES):
        if not any(path.match(pattern) for pattern in _PATTERNS) or not path.is_file():
            continue
        changed = path.stat().st_mtime
        if newest is None or changed > newest[0]:
            newest = (changed, path)
    if newest is None:
        raise InputError(
            f"There is no training log below {folder}. Give the work dir: pcan log WORKDIR"
        )
    return work_dir_of(newest[1], folder)


def _below(folder: Path) -> Iterator[Path]:
    """Yield what lies below a folder; what vanishes meanwhile is passed over."""
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def work_dir_of(log: Path, within: Path) -> Path:
    """Return the work dir that a log file belongs to, not above `within`."""
    # A trial keeps logs of its own below its run directory (W&B's among them).
    for above in log.parents:
        if is_trial(above):
            return above
        if above == within:
            break
    folder = log.parent
    if folder.name == "vis_data" and folder != within:
        folder = folder.parent
    if _TIME.fullmatch(folder.name) and folder != within:
        folder = folder.parent
    return folder
