"""When a launch tells W&B: never before the first epoch, never in the way of one.

The mirror is a child process that reads the run directories. It is started with the first thing
worth telling, so that it takes no core from a job that is starting.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

#: How long the end of a launch waits for W&B's files to be complete.
CLOSE_S = 60.0


class MirrorLike(Protocol):
    """The part of `track.mirror.Mirror` that a launch uses."""

    @property
    def trouble(self) -> str | None: ...

    def trials_changed(self) -> None: ...

    def close(self, deadline_s: float = ...) -> Any: ...


class WandbReporter:
    """Starts the mirror, wakes it, and sums it up.

    Args:
        folder: `runs/<sweep>`.
        start: makes the mirror; None where W&B is told nothing.
    """

    def __init__(self, folder: Path, start: Callable[[Path], MirrorLike] | None) -> None:
        self._folder = folder
        self._start = start
        self._mirror: MirrorLike | None = None
        self._trouble: str | None = None

    def changed(self) -> None:
        """Say that a run directory has changed; what goes wrong here ends no training."""
        if self._start is None or self._trouble is not None:
            return
        try:
            if self._mirror is None:
                self._mirror = self._start(self._folder)
            self._mirror.trials_changed()
        except Exception as error:  # no process to be had, a folder that cannot be written, ...
            self._trouble = f"{type(error).__name__}: {error}"

    def close(self) -> list[str]:
        """Let W&B's files be completed; return the lines that the user should see."""
        lines = []
        if self._trouble is not None:
            command = f"pcan sweep sync {self._folder.name}"
            lines.append(
                f"W&B was not told everything ({self._trouble}); make up for it: {command}"
            )
        if self._mirror is None:
            return lines
        summary = self._mirror.close(CLOSE_S)
        if summary.trouble:
            lines.append(f"W&B: {summary.trouble}")
        if summary.sent < summary.trials:
            kept = f"{summary.written} of {summary.trials} trials are in offline files"
            command = f"pcan sweep sync {self._folder.name}"
            lines.append(f"W&B: {kept}; send them: {command}")
        elif summary.trials:
            lines.append(f"W&B: all {summary.trials} trials are sent.")
        return lines
