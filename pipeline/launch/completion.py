"""The ends of trials: in the run directory at once, in the storage as soon as it accepts them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.env import storage_patience_s
from pipeline.errors import NotReady, StorageError
from pipeline.job.exit_cause import Outcome
from pipeline.launch.context import CurrentContext, LaunchContext
from pipeline.launch.control_files import ControlFiles
from pipeline.launch.reporters import Reporter
from pipeline.launch.scheduler import variant_after
from pipeline.launch.search_rule import rule_of_trial
from pipeline.launch.stop_requests import StopLevel, StopRequests
from pipeline.launch.trial_history import rules_for
from pipeline.launch.trial_runner import TrialRunner, outcome_of
from pipeline.launch.workdir import run_dir
from pipeline.plan.judge import judge
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.counted import counted
from pipeline.shared.states import Cause, Phase, State
from pipeline.study.claim import claim_to_prune
from pipeline.study.lease import LeaseLost
from pipeline.study.searches import outlook
from pipeline.study.trial_rows import TrialRow

RETRY_S = 2.0
#: How long a launch that was asked to stop waits for a storage that is only locked.
STOPPING_S = 10.0
#: When this many trials of a search in a row fail before an epoch, no other is drawn.
MAX_EARLY_FAILURES = 3
#: Faults of the machine or of changed code, not of the trial: it stays resumable, and no other is
#: started here.
MACHINE_CAUSES = (
    *(Cause.DISK_FULL, Cause.NO_GPU, Cause.MACHINE_LIMIT),
    *(Cause.CHECKPOINT_REFUSED, Cause.MACHINE_FAULT),
)


class CompletionQueue:
    """Trials that have ended here, and those whose end the storage has not accepted yet."""

    def __init__(self, current: CurrentContext, stops: StopRequests, reporter: Reporter) -> None:
        self.pending: list[tuple[TrialRunner, Outcome]] = []
        self.done: list[Outcome] = []
        self.failed: list[str] = []
        #: Ids of trials that this launch must not claim again.
        self.released: set[int] = set()
        self._current = current
        self._stops = stops
        self._reporter = reporter
        self._early_failures = 0
        self._retry_at = 0.0
        self._outage_since: float | None = None

    def add(self, trial: TrialRunner, outcome: Outcome) -> Exception | None:
        """Write a trial's outcome into its run directory; `flush` brings it to the storage.

        Returns:
            What keeps this machine from running any other trial.
        """
        error: Exception | None = None
        if outcome.state == State.FAIL and outcome.cause in MACHINE_CAUSES:
            outcome = Outcome(state=None, cause=outcome.cause, reason=outcome.reason)
            error = NotReady(
                f"{trial.name}: {outcome.reason.rstrip('.')}. Fix that, then run the same "
                "launch to go on."
            )
        error = error or self._failing_search(trial, outcome)
        trial.write_outcome(outcome)
        self.pending.append((trial, outcome))
        self._retry_at = 0.0
        return error

    def _failing_search(self, trial: TrialRunner, outcome: Outcome) -> Exception | None:
        """Return an error if trial after trial of a search fails before its first epoch.

        One of many may fail; when all do, drawing more would only use up the search's number.
        """
        early = outcome.state == State.FAIL and outcome.cause != Cause.NAN and not trial.history
        self._early_failures = self._early_failures + 1 if early else 0
        if self._current.value.order.search is None or self._early_failures < MAX_EARLY_FAILURES:
            return None
        return NotReady(
            f"The last {counted(MAX_EARLY_FAILURES, 'trial')} failed before their first "
            f"epoch ({outcome.cause}). "
            f"Fix that, then run the same search with {MAX_EARLY_FAILURES} more --trials."
        )

    def flush(self, alone: bool) -> None:
        """Bring pending ends to the storage, if it is time to try.

        Args:
            alone: no trial is running, so there is no point in waiting for long.

        Raises:
            StorageError: it stays away; the outcomes lie in the run directories.
        """
        if not self.pending or time.monotonic() < self._retry_at:
            return
        try:
            while self.pending:
                self._complete(*self.pending[0])
                self.pending.pop(0)
        except StorageError as error:
            self._outage(error, alone)
            return
        self._outage_since = None

    def _complete(self, trial: TrialRunner, outcome: Outcome) -> None:
        try:
            trial.report_end(outcome)
        except LeaseLost as lost:
            self._reporter.on_message(str(lost))
            return
        self.done.append(outcome)
        if outcome.state is None and outcome.cause != Cause.PAUSED:
            self.released.add(int(trial.lease.previous["trial_id"]))
        if outcome.state == State.FAIL:
            self.failed.append(trial.name)
            details = trial.log_excerpt()
        elif outcome.state is None:
            details = self._how_to_resume()
        else:
            details = self._next_step(trial)
        if outcome.state is not None and trial.lease.searched:
            separator = "\n  " if details else ""
            details += f"{separator}{self._outlook(trial)}".rstrip()
        self._reporter.on_trial_complete(trial, outcome, details)

    def _outage(self, error: StorageError, alone: bool) -> None:
        now = time.monotonic()
        if self._outage_since is None:
            self._outage_since = now
            self._reporter.on_message(
                f"{self.pending[0][0].name}: {error} Trying again every few seconds."
            )
        self._retry_at = now + RETRY_S
        if alone and now - self._outage_since >= self._patience_s():
            names = ", ".join(trial.name for trial, _ in self.pending)
            kept = all(trial.rundir.outcome.exists() for trial, _ in self.pending)
            self.pending.clear()
            how = (
                f"How {names} ended is kept in the run directory; the same launch reports it when "
                "the storage is back."
            )
            lost = (
                f"How {names} ended could not be kept either; when that is fixed, the same launch "
                "goes on from the last checkpoint."
            )
            raise StorageError(f"{error} {how if kept else lost}")

    def _patience_s(self) -> float:
        """Return how long an idle launch waits for its storage; not for long if it is to end."""
        if self._stops.level >= StopLevel.NOW:
            return 0.0
        asked = self._stops.level > StopLevel.NONE
        return min(STOPPING_S, storage_patience_s()) if asked else storage_patience_s()

    def _how_to_resume(self) -> str:
        """Return how an interrupted trial goes on; a search's hours count over all commands."""
        if self._current.value.order.search is None:
            return "Run the same launch to go on."
        return "The same search goes on; where its hours are used up, with a larger --gpu-hours."

    def _outlook(self, trial: TrialRunner) -> str:
        """Return what more trials of the search would gain, "" where that is not known."""
        context = self._current.value
        try:
            found = outlook(context.sweep, context.rows(), trial.lease.variant)
        except StorageError:
            return ""
        return found.sentence if found is not None and found.forecast is not None else ""

    def _next_step(self, trial: TrialRunner) -> str:
        """Return what the ladder starts next, "" where nothing follows or is known."""
        if trial.lease.searched:
            return ""
        context = self._current.value
        try:
            follower = variant_after(context, trial.lease.variant)
        except StorageError:
            return ""
        if follower is None:
            return ""
        plan = context.sweep.variants[follower].plan
        return f"The plan's next step: {follower}{f' ({plan})' if plan else ''}."


def prune_paused(context: LaunchContext, beaten: Sequence[TrialRow], reporter: Reporter) -> None:
    """End paused trials that the search's rule does not let resume."""
    for row in beaten:
        lease = claim_to_prune(context.sweep, context.study_storage, row.trial_id)
        if lease is None:
            continue
        rundir = run_dir(context.project, context.sweep.name, row.variant, row.number)
        history = rundir.read_measurements()
        verdict = judge(history, rules_for(context, lease, rundir)) if history else None
        if verdict is not None and verdict.kind is not VerdictKind.PRUNE:
            lease.release(Phase.PAUSED, cause=Cause.PAUSED, reason=verdict.reason, seconds=0)
            continue
        reason = verdict.reason if verdict is not None else "its run directory is gone"
        outcome = Outcome(
            state=State.PRUNED, cause=Cause(rule_of_trial(context, lease).name), reason=reason
        )
        records = list(row.verdicts)
        if verdict is not None:
            records.append(verdict.record())
            files = ControlFiles(rundir, row.name, reporter)
            files.add_verdict(verdict.record())
            files.write_outcome(outcome, history)
        lease.tell(
            State.PRUNED, history, cause=outcome.cause, reason=reason, verdicts=records, seconds=0
        )
        reporter.on_trial_complete(row, outcome)


def outcome_of_earlier_start(
    trial: TrialRunner, earlier: Mapping[str, Any] | None
) -> Outcome | None:
    """Return how a trial ended whose last launcher could not report it.

    Args:
        earlier: the content of its `outcome.json`.
    """
    if trial.ending is not None:
        return outcome_of(trial.ending)
    if earlier is None or earlier.get("state") is None:
        return None
    return Outcome(
        state=str(earlier["state"]),
        cause=earlier.get("cause"),
        reason=str(earlier.get("reason", "")),
    )
