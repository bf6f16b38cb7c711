"""How a running launch is asked to stop: signals, and the file that `pcan sweep stop` writes."""

import contextlib
import enum
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pipeline.job.exit_cause import Outcome
from pipeline.launch.reporters import Reporter
from pipeline.shared.files import read_json
from pipeline.shared.states import Cause

STOP_FILE = "stop.json"


class StopLevel(enum.IntEnum):
    """How urgently a launch was asked to stop."""

    NONE = 0
    AFTER_EPOCH = 1
    #: Without the running epoch.
    NOW = 2
    KILL = 3


_ON_INTERRUPT = {
    StopLevel.AFTER_EPOCH: "Stopping after the running epoch. Press Ctrl-C again to stop now.",
    StopLevel.NOW: "Stopping now; an epoch that is not saved yet is lost. Again: kill at once.",
    StopLevel.KILL: "Killing every process of the running trials.",
}


class StopRequests:
    """What was asked for so far, as a level that only rises.

    Args:
        folder: `runs/<sweep>`, where `pcan sweep stop` leaves its request.
        grace_s: how long a job may take to stop after SIGTERM or SIGHUP.
        notice_s: the same after SIGUSR1, by which a scheduler announces the end of its time.
        orphaned: stop now if the parent process, a scheduler's, dies: it no longer holds the
            GPUs for this launch.
    """

    def __init__(
        self,
        folder: Path,
        grace_s: float,
        reporter: Reporter,
        notice_s: float | None = None,
        orphaned: bool = False,
    ) -> None:
        self.level = StopLevel.NONE
        self.signal: signal.Signals | None = None
        #: How long a job may take to stop; None: until its epoch ends.
        self.grace_s: float | None = None
        self._file = folder / STOP_FILE
        self._signal_grace_s = grace_s
        self._notice_s = grace_s if notice_s is None else notice_s
        self._parent = os.getppid() if orphaned else None
        self._reporter = reporter
        # By identity, not by date: a clock that was set back hides no request.
        self._handled = _identity(self._file)
        self._unreported: list[str] = []
        self._by_file = False
        self._by_budget = ""
        self._orphan = False
        self._polled = 0.0

    @property
    def requested(self) -> bool:
        """Whether this launch is to end."""
        self._report()
        self._poll()
        return self.level > StopLevel.NONE

    @property
    def exit_code(self) -> int:
        """The exit code for a launch that was stopped; 0 if it was not."""
        if self.level == StopLevel.NONE:
            return 0
        if self.signal is signal.SIGINT:
            return 130
        return 75

    @property
    def out_of_time(self) -> bool:
        """Whether a scheduler has announced that the time of this job is nearly over."""
        return self.signal is signal.SIGUSR1

    def outcome(self) -> Outcome:
        """Return the outcome of the trials that are stopped; they stay resumable."""
        if self._by_budget:
            return Outcome(state=None, cause=Cause.BUDGET, reason=self._by_budget)
        if self._by_file:
            reason = "stopped by `pcan sweep stop`"
        elif self._orphan:
            reason = "the scheduler's process above this launch died"
        elif self.out_of_time:
            reason = "the scheduler's time for this job is nearly over (SIGUSR1)"
        else:
            reason = f"stopped by {self.signal.name if self.signal else 'the user'}"
        return Outcome(state=None, cause=Cause.INTERRUPTED, reason=reason)

    def budget_exhausted(self, reason: str) -> None:
        """Stop after the running epoch because a budget is used up."""
        if self.level == StopLevel.NONE:
            self.level, self._by_budget = StopLevel.AFTER_EPOCH, reason
            self._reporter.on_message(f"Stopping after the running epoch: {reason}.")

    @contextlib.contextmanager
    def signal_handlers(self) -> Iterator[None]:
        """Handle SIGINT, SIGTERM, SIGUSR1 and SIGHUP while the launch runs.

        A SIGHUP that is ignored already stays so: nohup and `launch --detach` mean it.
        """
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake up when the level rises."""
        deadline, level = time.monotonic() + seconds, self.level
        while (left := deadline - time.monotonic()) > 0 and self.level == level:
            time.sleep(min(left, 0.1))
        self._report()

    def _report(self) -> None:
        """Print what a signal handler may not: it could have interrupted a line being printed."""
        while self._unreported:
            self._reporter.on_message(self._unreported.pop(0))

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        if number == signal.SIGINT:
            self.level = StopLevel(min(StopLevel.KILL, self.level + 1))
            self.grace_s = None if self.level == StopLevel.AFTER_EPOCH else 0.0
            self._unreported.append(_ON_INTERRUPT[self.level])
        elif self.level == StopLevel.NONE:
            self.level = StopLevel.AFTER_EPOCH
            announced = number == signal.SIGUSR1
            self.grace_s = self._notice_s if announced else self._signal_grace_s
            name = signal.Signals(number).name
            self._unreported.append(
                f"{name}: stopping at the next checkpoint, within {self.grace_s:g} s."
            )
        elif self.out_of_time and number == signal.SIGTERM:  # the time is over
            self.level, self.grace_s = max(StopLevel.NOW, self.level), 0.0

    def _poll(self) -> None:
        """Read the stop file twice a second; one from before this launch means nothing."""
        if self._parent not in (None, os.getppid()) and not self._orphan:
            self.level, self.grace_s = max(StopLevel.NOW, self.level), 0.0
            self._orphan = True
            self._reporter.on_message(
                "The scheduler's process above this launch is gone; stopping now."
            )
        now = time.monotonic()
        if self.level > StopLevel.AFTER_EPOCH or now - self._polled < 0.5:
            return
        self._polled = now
        identity = _identity(self._file)
        if identity in (None, self._handled):
            return
        request, self._handled = read_json(self._file) or {}, identity
        level = StopLevel.NOW if request.get("now") else StopLevel.AFTER_EPOCH
        if level <= self.level:
            return
        self.level, self._by_file = level, True
        immediate = level == StopLevel.NOW
        self.grace_s = 0.0 if immediate else None
        self._reporter.on_message(
            "pcan sweep stop: " + ("stopping now." if immediate else "after the epoch.")
        )


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
