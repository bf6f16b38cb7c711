"""What the ranks of a job that makes no step have written about it.

A loader process, or a thread of a rank, can fail while all ranks wait for what it would have sent:
the error is in a log and nothing ends. It is read from there.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import printable
from pipeline.job.exit_cause import Outcome, log_tail
from pipeline.launch.reporters import Reporter
from pipeline.launch.watchdog import Watchdog
from pipeline.shared.limit_messages import met_limit
from pipeline.shared.states import Cause, State

#: A job that makes no step for this long, and longer than is usual for it, stands.
STANDING_S = 20.0
_EVERY_S = 5.0
_TRACEBACK = "Traceback (most recent call last):"
#: The last line of a traceback: the error's class and text.
_RAISED = re.compile(r"^(?:\[rank\d+\]:\s*)?((?:[\w]+\.)*[A-Z]\w*(?::.*)?)$")
#: Words by which libraries that are not Python report a fault.
_FAULT = re.compile(
    r"\berror\b|\bfail(?:ed|ure)\b|\bcannot\b|\bunable\b|\brefused\b|\btimed? ?out\b|"
    r"\bunavailable\b|\bdenied\b|\bunreachable\b|no space|not permitted|terminate called",
    re.I,
)
#: Lines of a training's own report, where such words are names of numbers.
_REPORT = re.compile(r"- (?:INFO|DEBUG) -|Warning:|\bWARNING\b|^\s|Epoch\(")
#: In this function of multiprocessing a loader process sends a batch; one that cannot be sent is
#: dropped, and its rank waits for it without an end.
_DROPPED = "in _feed"


@dataclasses.dataclass(frozen=True)
class LogMessage:
    """An error in a rank's log.

    Args:
        log: the file's name.
        text: the error in one line.
        remedy: what to do, None if the error is not a known one.
        final: the rank waits without an end.
    """

    log: str
    text: str
    remedy: str | None
    final: bool

    @property
    def sentence(self) -> str:
        """What was written, where, and what to do."""
        dropped = "a loader process could not send its batch: " if self.final else ""
        remedy = f"; {self.remedy}" if self.remedy is not None else ""
        return f"{dropped}{self.text} ({self.log}){remedy}"


class StandstillReader:
    """Reads the logs of one start of a job while it makes no step.

    Args:
        since: each log with its size when the job was started.
    """

    def __init__(self, since: Mapping[Path, int]) -> None:
        self._since = since
        self._next = STANDING_S
        self._known: set[tuple[str, str]] = set()

    def report(self, name: str, watchdog: Watchdog, reporter: Reporter) -> Outcome | None:
        """Report new errors of ranks that make no step.

        Returns:
            The outcome of a job that waits without an end, None of one that may go on.
        """
        quiet = watchdog.quiet_s
        for message in self.new_messages(quiet, watchdog.longest_s):
            reason = f"no step for {quiet:.0f} s: {message.sentence}"
            if message.final:
                reporter.on_message(f"{name}: {reason}. It is ended.")
                cause = Cause.STALL if message.remedy is None else Cause.MACHINE_LIMIT
                return Outcome(state=State.FAIL, cause=cause, reason=reason)
            reporter.on_message(f"{name}: {reason}.")
        return None

    def new_messages(self, quiet_s: float, usual_s: float) -> list[LogMessage]:
        """Return errors in the logs that were not returned before; those that are final first.

        Args:
            quiet_s: since the last step.
            usual_s: how long the longest step of this phase took, 0 if that is not known.
        """
        if quiet_s < STANDING_S:
            self._next = STANDING_S
        if quiet_s < max(self._next, 2 * usual_s):
            return []
        self._next = quiet_s + _EVERY_S
        found = {(one.log, one.text): one for one in standstill_messages(self._since)}
        new = [one for key, one in found.items() if key not in self._known]
        self._known.update(found)
        return new


def standstill_messages(since: Mapping[Path, int]) -> list[LogMessage]:
    """Return the errors in logs, those after which a rank waits without an end first."""
    found = [one for log, start in since.items() for one in _messages(log, start)]
    return sorted(found, key=lambda one: (not one.final, one.remedy is None))


def _messages(log: Path, start: int) -> Iterator[LogMessage]:
    text = log_tail(log, start)
    before, *tracebacks = text.split(_TRACEBACK)
    for body in tracebacks:
        raised = next((m for line in body.splitlines() if (m := _RAISED.match(line))), None)
        if raised is not None:
            final = _DROPPED in body[: body.index(raised.group(0))]
            yield _message(log, raised.group(1), final)
    lines = [line for part in (before, *map(_after, tracebacks)) for line in part.splitlines()]
    for line in lines:
        if met_limit(line) or (_FAULT.search(line) and not _REPORT.search(line)):
            yield _message(log, line.strip(), False)


def _after(body: str) -> str:
    """Return what follows a traceback's own lines."""
    lines = body.splitlines()
    end = next((i for i, line in enumerate(lines) if _RAISED.match(line)), len(lines))
    return "\n".join(lines[end + 1 :])


def _message(log: Path, text: str, final: bool) -> LogMessage:
    return LogMessage(log.name, printable(text)[:300].rstrip("."), met_limit(text), final)
