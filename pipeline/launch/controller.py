"""The launcher: fill free slots with trials until the plan is done.

One process, one thread. It claims a trial, starts its job, polls all running jobs every tenth of
a second, and asks the scheduler what comes next whenever one has ended. What goes wrong with one
trial, or with the storage, never ends another: the launch then starts nothing new, lets its
running trials finish, and ends with that error.
"""

import contextlib
import time

from pipeline.errors import PcanError, StorageError
from pipeline.job.exit_cause import Outcome
from pipeline.launch.budget import Budget
from pipeline.launch.claims import ClaimedTrial, TrialClaimer, takeover_message
from pipeline.launch.completion import CompletionQueue
from pipeline.launch.context import CurrentContext, EnclosingJob, LaunchContext, Schedule
from pipeline.launch.messages import error_text, refusal
from pipeline.launch.plan_reloader import PlanReloader
from pipeline.launch.reporters import Reporter
from pipeline.launch.resume_checkpoint import quarantine_checkpoint, rejected_checkpoint
from pipeline.launch.retries import RetryPolicy
from pipeline.launch.search import other_launches_gpu_hours
from pipeline.launch.slot_pool import SlotPool
from pipeline.launch.stop_requests import StopLevel, StopRequests
from pipeline.launch.trial_lease import TrialLease
from pipeline.launch.trial_runner import TrialRunner
from pipeline.launch.workdir import write_workdir
from pipeline.shared.files import read_json
from pipeline.shared.states import Phase
from pipeline.study.lease import LeaseLost

POLL_INTERVAL_S = 0.1
#: How often a free slot asks the storage for work while other jobs run.
CLAIM_INTERVAL_S = 5.0


class LaunchController:
    """A launch while it runs.

    After `run`, `done` holds how each trial ended that was run here, `failed` the names of those
    that failed.

    Args:
        wait: wait for GPUs that other launches hold.
        budget: what this launch may spend.
        enclosing: the scheduler's job that this launch runs in; it does not stay to see what
            other launches leave.
    """

    def __init__(
        self,
        context: LaunchContext,
        stops: StopRequests,
        reporter: Reporter,
        wait: bool = False,
        budget: Budget | None = None,
        enclosing: EnclosingJob | None = None,
    ) -> None:
        #: Epochs measured in this launch.
        self.epochs = 0
        self._current = CurrentContext(context)
        self._stops = stops
        self._reporter = reporter
        self._trials: list[TrialRunner] = []
        self._completion = CompletionQueue(self._current, stops, reporter)
        self.done, self.failed = self._completion.done, self._completion.failed
        self._slots = SlotPool(context.slots, wait, reporter)
        self._claimer = TrialClaimer(
            self._current, self._slots, self._completion, stops, reporter, enclosing
        )
        self._reloader = PlanReloader(context.sweep, reporter)
        self._budget = budget or Budget()
        self._retries = RetryPolicy(context.sweep.job.retry)
        self._claim_at = 0.0
        self._error: Exception | None = None

    @property
    def context(self) -> LaunchContext:
        return self._current.value

    def run(self) -> Schedule:
        """Run until the plan is done or the launch is stopped.

        Returns:
            The last schedule: nothing more is wanted, and why.

        Raises:
            Exception: what kept a trial from going on; all others have finished.
        """
        try:
            while True:
                self._claim_if_due()
                if self._idle:
                    if self._error is not None:
                        raise self._error
                    if self._stops.requested or not self._claimer.wait_for_others():
                        if self._stops.level < StopLevel.NOW:
                            self._slots.close()
                        return self._claimer.schedule
                self.step()
        finally:
            for trial in self._trials:
                trial.kill()

    def step(self) -> None:
        """Reload the plan, poll every trial, complete those that ended, report; then sleep."""
        exceeded = self._budget.exceeded(self._trials, self.context.sweep.job.gpus)
        if exceeded is not None:
            self._stops.budget_exhausted(exceeded)
        with self.context.study_storage.short_timeout():
            try:
                self._reload_plan()
            except Exception as error:
                self._drain_then_fail(error)
            for trial in list(self._trials):
                self._poll_safely(trial)
            try:
                self._completion.flush(alone=not self._trials)
            except StorageError as error:
                self._error = self._error or error
        self._slots.poll()
        self._reporter.on_step_end(self._trials)
        self._stops.sleep(POLL_INTERVAL_S)

    @property
    def _idle(self) -> bool:
        """Whether nothing runs and the storage has accepted every end."""
        return not self._trials and not self._completion.pending

    def _accepting(self) -> bool:
        """Whether trials may be started."""
        return self._error is None and not self._stops.requested

    def _claim_if_due(self) -> None:
        """Fill free slots: at once when a trial has ended, else every few seconds."""
        if not self._accepting():
            return
        if len(self._trials) == len(self.context.slots) or time.monotonic() < self._claim_at:
            return
        storage = self.context.study_storage
        try:
            with contextlib.nullcontext() if self._idle else storage.short_timeout():
                self._claimer.claim_and_start(self._accepting, self._start_trial)
        except StorageError as error:
            if self._idle:
                raise
            self._reporter.on_status(f"{error} Running trials go on.")
        except Exception as error:
            if self._idle:
                raise
            self._drain_then_fail(error)
        self._claim_at = time.monotonic() + (CLAIM_INTERVAL_S if self._trials else 0.0)

    def _drain_then_fail(self, error: Exception) -> None:
        """Start nothing more, and end with this error once the running trials have ended."""
        self._error = self._error or error
        if self._trials:
            self._reporter.on_status(
                f"{error_text(error)}\nThe running trials go on; no other is started."
            )

    def _start_trial(self, claimed: ClaimedTrial) -> None:
        """Start the job of a claimed trial, or end it if an earlier attempt decided that."""
        try:
            trial, outcome = self._claimer.open(claimed)
        except Exception as error:
            self._slots.release(claimed.slot)
            self._release_failed(claimed.lease, error)
            return
        message = takeover_message(claimed.lease)
        if message is not None:
            self._reporter.on_message(message)
        if outcome is not None:
            self._complete(trial, outcome)
            return
        self.epochs -= len(trial.history)
        self._trials.append(trial)
        try:
            self._start(trial)
        except Exception as error:  # no process can be started
            self._abandon(trial)
            self._release_failed(claimed.lease, error)

    def _start(self, trial: TrialRunner) -> None:
        number = self._retries.started(trial)
        trial.start(self.context.command(trial.slot), number)

    def _reload_plan(self) -> None:
        """Go on by the sweep file as it is now, if it has changed."""
        changed = self._reloader.poll(self.context)
        if changed is None:
            return
        self._current.value = changed
        self._retries.bounds = changed.sweep.job.retry
        self._claim_at = 0.0
        for trial in self._trials:
            trial.grace_s = changed.sweep.job.stop_grace_s
            trial.rejudge()

    def _poll_safely(self, trial: TrialRunner) -> None:
        """Poll one trial; what goes wrong with it ends no other."""
        try:
            self._poll(trial)
        except LeaseLost as lost:
            self._reporter.on_message(str(lost))
            self._abandon(trial)
        except Exception as error:
            self._abandon(trial)
            self._release_failed(trial.lease, error)

    def _poll(self, trial: TrialRunner) -> None:
        if trial.poll():
            self._count_other_launches()
        trial.apply_stop_requests(self._stops)
        trial.enforce_time_limit(self.context.sweep.job)
        trial.check_stalled()
        trial.enforce_deadline()
        if not trial.ended():
            return
        outcome = trial.reap()
        if not self._stops.requested and self._retries.allowed(trial, outcome):
            self._restart(trial, outcome)
        else:
            self._trials.remove(trial)
            self.epochs += len(trial.history)
            self._complete(trial, outcome)

    def _count_other_launches(self) -> None:
        """Read what other launches have spent of a search's hours: an epoch may exceed them."""
        running = [int(trial.lease.previous["trial_id"]) for trial in self._trials]
        with contextlib.suppress(StorageError):
            spent = other_launches_gpu_hours(self.context, running)
            if spent is not None:
                self._budget.count_from(spent)

    def _restart(self, trial: TrialRunner, outcome: Outcome) -> None:
        rejected = rejected_checkpoint(trial.rundir, read_json(trial.rundir.outcome))
        if rejected is not None:
            line = quarantine_checkpoint(trial.rundir, rejected)
            self._reporter.on_message(f"{trial.name}: {line}")
        reason = outcome.reason.rstrip(".")
        self._reporter.on_message(f"{trial.name}: {reason} ({outcome.cause}); starting it again.")
        number = self._retries.next_start(trial)
        write_workdir(self.context, trial.lease, trial.slot, number)
        trial.clear_stop()
        self._start(trial)

    def _complete(self, trial: TrialRunner, outcome: Outcome) -> None:
        """Free the slot for the next trial, and bring the end of this one to the storage."""
        self._slots.release(trial.slot, trial.name)
        self._budget.ended(trial, self.context.sweep.job.gpus)
        error = self._completion.add(trial, outcome)
        self._error = self._error or error
        with contextlib.suppress(StorageError):
            self._completion.flush(alone=False)
        self._claim_at = 0.0

    def _abandon(self, trial: TrialRunner) -> None:
        """End a job that this launch no longer owns; nothing is written to the storage."""
        trial.kill()
        self._slots.release(trial.slot, trial.name)
        if trial in self._trials:
            self._trials.remove(trial)
        self._claim_at = 0.0

    def _release_failed(self, lease: TrialLease, error: Exception) -> None:
        """Leave a trial to the next launch; this one ends with `error`, after its running jobs."""
        error = refusal(lease.name, error)
        with contextlib.suppress(PcanError):  # its lease ends with this process in any case
            lease.release(Phase.INTERRUPTED, cause=None, reason=str(error)[:500], seconds=0)
        self._drain_then_fail(error)
