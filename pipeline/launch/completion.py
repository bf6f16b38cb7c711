"""The ends of trials: in the run directory at once, in the storage as soon as it takes them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.env import storage_patience_s
from pipeline.errors import NotReady, StorageError
from pipeline.job.exit_cause import Outcome
from pipeline.launch.context import LaunchContext
from pipeline.launch.notify import Notice, no_notice
from pipeline.launch.stop_requests import StopRequests
from pipeline.launch.trial_runner import TrialRunner
from pipeline.study.lease import LeaseLost

RETRY_S = 2.0
#: So many trials of a search that fail in a row before an epoch have one reason.
MAX_STILLBORN = 3
#: Faults of the machine, not of the trial: it stays resumable, and no other is begun here.
MACHINE_CAUSES = ("disk_full", "no_gpu")


class CompletionQueue:
    """Trials that have ended here, and those whose end the storage has yet to hear of.

    Args:
        say: prints one line for the user.
        notice: tells the user's own command of failures.
    """

    def __init__(
        self,
        context: LaunchContext,
        stops: StopRequests,
        say: Callable[[str], None],
        notice: Notice = no_notice,
    ) -> None:
        self.pending: list[tuple[TrialRunner, Outcome]] = []
        self.done: list[Outcome] = []
        self.failed: list[str] = []
        self.given_back: set[int] = set()
        self.context = context
        self._stops = stops
        self._say = say
        self._notice = notice
        self._barren = 0
        self._retry_at = 0.0
        self._since: float | None = None

    def add(self, attempt: TrialRunner, outcome: Outcome) -> Exception | None:
        """Write a trial's outcome; `tell` brings it to the storage.

        Returns:
            What keeps this machine from running any other trial.
        """
        wrong: Exception | None = None
        if outcome.state == "FAIL" and outcome.cause in MACHINE_CAUSES:
            outcome = Outcome(state=None, cause=outcome.cause, reason=outcome.reason)
            wrong = NotReady(
                f"{attempt.name}: {outcome.reason.rstrip('.')}. Mend that, then run the same "
                "launch to go on."
            )
        wrong = wrong or self._barren_search(attempt, outcome)
        attempt.write_outcome(outcome)
        self.pending.append((attempt, outcome))
        self._retry_at = 0.0
        return wrong

    def _barren_search(self, attempt: TrialRunner, outcome: Outcome) -> Exception | None:
        """Say so if trial after trial of a search fails before its first epoch.

        One of many may fail; when all do, drawing more would only use up the search's number.
        """
        barren = outcome.state == "FAIL" and outcome.cause != "nan" and not attempt.history
        self._barren = self._barren + 1 if barren else 0
        if self.context.order.search is None or self._barren < MAX_STILLBORN:
            return None
        return NotReady(
            f"The last {MAX_STILLBORN} trials failed before their first epoch ({outcome.cause}). "
            "Mend that, then run the same search with so many more --trials."
        )

    def flush(self, alone: bool) -> None:
        """Tell the storage what is pending, if it is time to try.

        Args:
            alone: nothing runs any more, so there is no point in waiting for long.

        Raises:
            StorageError: it stays away; the outcomes lie in the run directories.
        """
        if not self.pending or time.monotonic() < self._retry_at:
            return
        try:
            while self.pending:
                self._tell_one(*self.pending[0])
                self.pending.pop(0)
        except StorageError as error:
            self._away(error, alone)
            return
        self._since = None

    def _tell_one(self, attempt: TrialRunner, outcome: Outcome) -> None:
        try:
            attempt.report_end(outcome)
        except LeaseLost as lost:
            self._say(str(lost))
            return
        self.done.append(outcome)
        if outcome.state is None and outcome.cause != "paused":
            self.given_back.add(int(attempt.lease.previous["trial_id"]))
        if outcome.state == "FAIL":
            self.failed.append(attempt.name)
            self._say(attempt.failure(outcome))
            told = f"{attempt.name} failed ({outcome.cause}): {outcome.reason}"
            facts = {"trial": attempt.name, "cause": outcome.cause, "reason": outcome.reason}
            self._notice("failure", told, facts)
        else:
            self._say(self._sentence(attempt, outcome))

    def _away(self, error: StorageError, alone: bool) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._say(f"{self.pending[0][0].name}: {error} Trying again every few seconds.")
        self._retry_at = now + RETRY_S
        if alone and (self._stops.level >= 2 or now - self._since > storage_patience_s()):
            names = ", ".join(attempt.name for attempt, _ in self.pending)
            self.pending.clear()
            raise StorageError(
                f"{error} How {names} ended is kept in the run directory; the same launch reports "
                "it when the storage is back."
            )

    @property
    def _again(self) -> str:
        """Say how to go on; the hours of a search count over all its commands."""
        if self.context.order.search is None:
            return "Run the same launch to go on."
        return "The same search goes on; where its hours are used up, with a larger --gpu-hours."

    def _sentence(self, attempt: TrialRunner, outcome: Outcome) -> str:
        if outcome.state is None:
            reason = outcome.reason.rstrip(".")
            if outcome.cause == "paused":
                return f"{attempt.name} is paused; its place goes to the next."
            return f"{attempt.name} interrupted: {reason}. {self._again}"
        reason = f": {outcome.reason.rstrip('.')}" if outcome.reason else ""
        line = f"{attempt.name} {outcome.state.lower()}{reason}."
        try:
            searched, variant = attempt.lease.searched, attempt.lease.variant
            follower = None if searched else self.context.next_variant(variant)
        except StorageError:
            return line
        if follower is None:
            return line
        plan = self.context.sweep.variants[follower].plan
        return f"{line} The plan's next step: {follower}{f' ({plan})' if plan else ''}."


def outcome_of_earlier_start(
    attempt: TrialRunner, earlier: Mapping[str, Any] | None
) -> Outcome | None:
    """Return how a trial ended whose last launcher could not say so any more."""
    ending = attempt.ending
    if ending is not None:
        return Outcome(state=ending.state, cause=ending.cause, reason=ending.reason)
    if earlier is None or earlier.get("state") is None:
        return None
    return Outcome(
        state=str(earlier["state"]),
        cause=earlier.get("cause"),
        reason=str(earlier.get("reason", "")),
    )
