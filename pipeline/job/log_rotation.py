"""Keep the logs of a job from filling the disk, while its processes write into them.

Every writer opened its log for appending, so a log may be truncated while it is open: the next
line goes to the new end. What is written between copy and truncation is lost, a few lines at most.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

#: A log of a whole training is far smaller, unless it has a warning for each step.
MAX_BYTES = 200_000_000
#: How much of its end is kept beside it, as `rank0.log.1`.
KEPT_BYTES = 20_000_000
CHECK_INTERVAL_S = 30.0


class LogRotator:
    """Truncates logs that have grown too large, checked every half minute."""

    def __init__(self, logs: Sequence[Path]) -> None:
        self._logs = logs
        self._check_at = 0.0

    def check(self) -> None:
        """Rotate logs that are too large, if the last check is long enough ago."""
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + CHECK_INTERVAL_S
        for log in self._logs:
            with contextlib.suppress(OSError):  # not there yet, or no room for the copy
                rotate(log, MAX_BYTES, KEPT_BYTES)


def rotate(log: Path, most: int, kept: int) -> bool:
    """Empty a log of more than `most` bytes, keeping its last `kept` in `<log>.1`.

    Returns:
        Whether it was too large.
    """
    if log.stat().st_size <= most:
        return False
    old = log.with_name(f"{log.name}.1")
    old.unlink(missing_ok=True)
    handle = os.open(old, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with open(log, "rb") as source, os.fdopen(handle, "wb") as target:
        source.seek(-min(kept, most), os.SEEK_END)
        shutil.copyfileobj(source, target)
    os.truncate(log, 0)
    return True
