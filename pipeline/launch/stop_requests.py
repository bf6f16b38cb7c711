"""How a running launch is asked to stop: signals, and the file that `pcan sweep stop` writes."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from pipeline.job.exit_cause import Outcome
from pipeline.shared.files import read_json

STOP_FILE = "stop.json"


class StopRequests:
    """What was asked for so far, as a level that only rises.

    0 nothing; 1 stop after the running epoch; 2 stop now, without the epoch; 3 kill.

    Args:
        folder: `runs/<sweep>`, where `pcan sweep stop` leaves its request.
        grace_s: how long a job may take to stop after SIGTERM or SIGHUP.
        notice_s: the same after SIGUSR1, by which a scheduler tells that time is nearly up.
        orphaned: stop now if the parent process, a scheduler's, dies: it no longer holds the
            GPUs for us.
    """

    def __init__(
        self,
        folder: Path,
        grace_s: float,
        say: Callable[[str], None],
        notice_s: float | None = None,
        orphaned: bool = False,
    ) -> None:
        self.level = 0
        self.signal: signal.Signals | None = None
        self.grace_s: float | None = None
        self._file = folder / STOP_FILE
        self._patience = grace_s
        self._notice_s = grace_s if notice_s is None else notice_s
        self._parent = os.getppid() if orphaned else None
        self._say = say
        # By what it is, not by its date: a clock that was set back hides no request.
        self._earlier = _identity(self._file)
        self._unsaid: list[str] = []
        self._by_file = False
        self._by_budget = ""
        self._orphan = False
        self._polled = 0.0

    @property
    def requested(self) -> bool:
        """Whether this launch is to end."""
        self._speak()
        self._poll()
        return self.level > 0

    @property
    def exit_code(self) -> int:
        """The exit code for a launch that was stopped; 0 if it was not."""
        if self.level == 0:
            return 0
        if self.signal is signal.SIGINT:
            return 130
        return 75

    def outcome(self) -> Outcome:
        """Return what the stopped trials are told; they stay resumable."""
        if self._by_budget:
            return Outcome(state=None, cause="budget", reason=self._by_budget)
        if self._by_file:
            reason = "stopped by `pcan sweep stop`"
        elif self._orphan:
            reason = "the scheduler's process above this launch died"
        elif self.out_of_time:
            reason = "the scheduler's time for this job is nearly over (SIGUSR1)"
        else:
            reason = f"stopped by {self.signal.name if self.signal else 'the user'}"
        return Outcome(state=None, cause="interrupted", reason=reason)

    @property
    def out_of_time(self) -> bool:
        """Whether a scheduler has said that the time of this job is nearly over."""
        return self.signal is signal.SIGUSR1

    def budget_exhausted(self, reason: str) -> None:
        """Stop after the running epoch because a budget is used up."""
        if self.level == 0:
            self.level, self._by_budget = 1, reason
            self._say(f"Stopping after the running epoch: {reason}.")

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
        """Sleep, but wake when something is asked for."""
        deadline, level = time.monotonic() + seconds, self.level
        while (left := deadline - time.monotonic()) > 0 and self.level == level:
            time.sleep(min(left, 0.1))
        self._speak()

    def _speak(self) -> None:
        """Say what a signal handler may not: it could have interrupted a line being printed."""
        while self._unsaid:
            self._say(self._unsaid.pop(0))

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        if number == signal.SIGINT:
            self.level = min(3, self.level + 1)
            self.grace_s = {1: None, 2: 0.0, 3: 0.0}[self.level]
            self._unsaid.append(
                {
                    1: "Stopping after the running epoch. Press Ctrl-C again to stop now.",
                    2: "Stopping now; the running epoch is lost. Again: kill at once.",
                    3: "Killing every process of the running trials.",
                }[self.level]
            )
            return
        if self.level == 0:
            near = number == signal.SIGUSR1
            self.level, self.grace_s = 1, self._notice_s if near else self._patience
            name = signal.Signals(number).name
            self._unsaid.append(
                f"{name}: stopping at the next checkpoint, within {self.grace_s:g} s."
            )
        elif self.out_of_time and number == signal.SIGTERM:  # the time is over
            self.level, self.grace_s = max(2, self.level), 0.0

    def _poll(self) -> None:
        """Look for the stop file now and then; one from before this launch means nothing."""
        if self._parent not in (None, os.getppid()) and not self._orphan:
            self.level, self.grace_s, self._orphan = max(2, self.level), 0.0, True
            self._say("The scheduler's process above this launch is gone; stopping now.")
        now = time.monotonic()
        if self.level > 1 or now - self._polled < 0.5:
            return
        self._polled = now
        found = _identity(self._file)
        if found in (None, self._earlier):
            return
        request, self._earlier = read_json(self._file) or {}, found
        level = 2 if request.get("now") else 1
        if level <= self.level:
            return
        self.level, self._by_file = level, True
        self.grace_s = 0.0 if level == 2 else None
        self._say("pcan sweep stop: " + ("stopping now." if level == 2 else "after the epoch."))


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
