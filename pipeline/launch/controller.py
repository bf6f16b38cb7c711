"""The launcher: fill free slots with trials until the plan is done.

One process, one thread. It claims a trial, starts its job, follows all running jobs every tenth of
a second, and asks the policy what comes next whenever one has ended. What goes wrong with one
trial, or with the storage, never ends another: the launch then begins nothing new, sees its
running trials through, and ends with that error.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.errors import PcanError, StorageError
from pipeline.job.exit_cause import Outcome
from pipeline.job.slots import Slot
from pipeline.launch.budget import Budget
from pipeline.launch.claims import TrialClaimer
from pipeline.launch.completion import CompletionQueue
from pipeline.launch.context import LaunchContext
from pipeline.launch.enclosing_job import EnclosingJob
from pipeline.launch.messages import error_text, refusal
from pipeline.launch.notify import Notice, no_notice
from pipeline.launch.pass_stop import apply_stop_requests
from pipeline.launch.reporters import Show
from pipeline.launch.retry_policy import RetryPolicy, rejected_checkpoint
from pipeline.launch.scheduler import Schedule
from pipeline.launch.search import other_launches_gpu_hours
from pipeline.launch.slot_pool import SlotPool
from pipeline.launch.stop_requests import StopRequests
from pipeline.launch.taking_up import open_trial, takeover_message, write_workdir
from pipeline.launch.trial_runner import TrialRunner
from pipeline.launch.workdir import quarantine_checkpoint
from pipeline.shared.files import read_json
from pipeline.study.lease import Lease, LeaseLost
from pipeline.study.trial_rows import TrialRow

POLL_INTERVAL_S = 0.1
#: How often a free slot asks the storage for work while other jobs run.
CLAIM_INTERVAL_S = 5.0


class LaunchController:
    """A launch while it runs.

    After `run`, `done` holds how each trial ended that was run here, `failed` the names of those
    that failed.

    Args:
        wait: wait for GPUs that other launches hold.
        changed: called after an epoch, a start or an end of a trial.
        reread: returns the context by a sweep file that has changed meanwhile.
        budget: what this launch may spend.
        notice: tells the user's own command of verdicts and failures.
        inside: the scheduler's job that this launch runs in; it does not stay to see what
            other launches leave.
    """

    def __init__(
        self,
        context: LaunchContext,
        stops: StopRequests,
        show: Show,
        wait: bool = False,
        changed: Callable[[], None] = lambda: None,
        reread: Callable[[LaunchContext], LaunchContext | None] = lambda context: None,
        budget: Budget | None = None,
        notice: Notice = no_notice,
        inside: EnclosingJob | None = None,
    ) -> None:
        self.context = context
        self.stops = stops
        #: Epochs measured in this launch.
        self.epochs = 0
        self._inside = inside
        self.show = show
        self.attempts: list[TrialRunner] = []
        self.endings = CompletionQueue(context, stops, show.line, notice)
        self.places = SlotPool(context.slots, wait, show.line)
        self._filling = TrialClaimer(self.places, self.endings, stops, show.line, inside)
        self._changed = changed
        self._reread = reread
        self._budget = budget or Budget()
        self._notice = notice
        self._retries = RetryPolicy(context.sweep.job.retry)
        self._plan = Schedule(wanted=())
        self._fill_at = 0.0
        self._error: Exception | None = None

    @property
    def done(self) -> list[Outcome]:
        return self.endings.done

    @property
    def failed(self) -> list[str]:
        return self.endings.failed

    def run(self) -> Schedule:
        """Run until the plan is done or the launch is stopped.

        Returns:
            What the policy said last: nothing more is wanted, and why.

        Raises:
            Exception: what kept a trial from going on; all others have been seen through.
        """
        try:
            while True:
                self._fill_if_due()
                if self._idle:
                    if self._error is not None:
                        raise self._error
                    if self.stops.requested or not self._filling.wait_for_others(
                        self.context, self._plan
                    ):
                        if self.stops.level < 2:
                            self.places.close()
                        return self._plan
                self.step()
        finally:
            for attempt in self.attempts:
                _end_processes(attempt)

    def _fill_if_due(self) -> None:
        """Fill free slots: at once when a trial has ended, else every few seconds."""
        if not self._accepting():
            return
        if len(self.attempts) == len(self.context.slots) or time.monotonic() < self._fill_at:
            return
        storage = self.context.study_storage
        try:
            with contextlib.nullcontext() if self._idle else storage.short_timeout():
                self._plan = self._filling.claim_and_start(
                    self.context, self._accepting, self._start_trial, self._changed
                )
        except StorageError as error:
            if self._idle:
                raise
            self._filling.tell_once(f"{error} Running trials go on.")
        except Exception as error:
            if self._idle:
                raise
            self._drain_then_fail(error)
        self._fill_at = time.monotonic() + (CLAIM_INTERVAL_S if self.attempts else 0.0)

    @property
    def _idle(self) -> bool:
        """Whether nothing runs and the storage has heard of everything."""
        return not self.attempts and not self.endings.pending

    def _drain_then_fail(self, error: Exception) -> None:
        """Begin nothing more, and end with this error once the running trials have ended."""
        self._error = self._error or error
        if self.attempts:
            self._filling.tell_once(
                f"{error_text(error)}\nThe running trials go on; no other is begun."
            )

    def _accepting(self) -> bool:
        """Whether trials may be begun."""
        return self._error is None and not self.stops.requested

    def _start_trial(self, lease: Lease, slot: Slot, rows: Sequence[TrialRow]) -> None:
        """Start the job of a claimed trial, or end the trial if earlier attempts settled it."""
        try:
            attempt, outcome = open_trial(
                lambda: self.context, lease, slot, rows, self.show.line, self._notice, self._inside
            )
        except Exception as error:
            self.places.release(slot)
            self._release_failed(lease, error)
            return
        told = takeover_message(lease)
        if told is not None:
            self.show.line(told)
        if outcome is not None:
            self._close(attempt, outcome)
            return
        self.epochs -= len(attempt.history)
        self.attempts.append(attempt)
        self._start(attempt)

    def _start(self, attempt: TrialRunner) -> None:
        number = self._retries.started(attempt)
        attempt.start(self.context.command(attempt.slot), number)

    def step(self) -> None:
        spent = self._budget.exceeded(self.attempts, self.context.sweep.job.gpus)
        if spent is not None:
            self.stops.budget_exhausted(spent)
        with self.context.study_storage.short_timeout():
            try:
                self._reload_plan()
            except Exception as error:
                self._drain_then_fail(error)
            for attempt in list(self.attempts):
                try:
                    self._tick_one(attempt)
                except LeaseLost as lost:
                    self.show.line(str(lost))
                    self._abandon(attempt)
                except Exception as error:
                    self._abandon(attempt)
                    self._release_failed(attempt.lease, error)
            try:
                self.endings.flush(alone=not self.attempts)
            except StorageError as error:
                self._error = self._error or error
        self.places.poll()
        self.show.live(self.attempts)
        self.stops.sleep(POLL_INTERVAL_S)

    def _reload_plan(self) -> None:
        """Go on by the sweep file as it is now, if it has changed."""
        changed = self._reread(self.context)
        if changed is None:
            return
        self.context = self.endings.context = changed
        self._retries.bounds = changed.sweep.job.retry
        self._fill_at = 0.0
        for attempt in self.attempts:
            attempt.grace_s = changed.sweep.job.stop_grace_s
            attempt.rejudge()

    def _tick_one(self, attempt: TrialRunner) -> None:
        if attempt.poll():
            self._count_others()
            self._changed()
        apply_stop_requests(self.stops, attempt, self.context.sweep.job)
        attempt.check_stalled()
        attempt.enforce_deadline()
        if not attempt.ended():
            return
        outcome = attempt.reap()
        if not self.stops.requested and self._retries.allowed(attempt, outcome):
            self._restart(attempt, outcome)
        else:
            self.attempts.remove(attempt)
            self.epochs += len(attempt.history)
            self._close(attempt, outcome)

    def _count_others(self) -> None:
        """Ask what other launches have spent of a search's hours: an epoch may go beyond them."""
        mine = [int(attempt.lease.previous["trial_id"]) for attempt in self.attempts]
        with contextlib.suppress(StorageError):
            spent = other_launches_gpu_hours(self.context, mine)
            if spent is not None:
                self._budget.count_from(spent)

    def _restart(self, attempt: TrialRunner, outcome: Outcome) -> None:
        refused = rejected_checkpoint(attempt.rundir, read_json(attempt.rundir.outcome))
        if refused is not None:
            quarantine_checkpoint(attempt.rundir, refused)
        reason = outcome.reason.rstrip(".")
        self.show.line(f"{attempt.name}: {reason} ({outcome.cause}); starting it again.")
        start = self._retries.next_start(attempt)
        write_workdir(self.context, attempt.lease, attempt.slot, start)
        attempt.clear_stop()
        self._start(attempt)

    def _close(self, attempt: TrialRunner, outcome: Outcome) -> None:
        """Give the slot to the next, and have the end of the trial told."""
        self.places.release(attempt.slot, attempt.name)
        self._budget.ended(attempt, self.context.sweep.job.gpus)
        wrong = self.endings.add(attempt, outcome)
        self._error = self._error or wrong
        with contextlib.suppress(StorageError):
            self.endings.flush(alone=False)
        self._fill_at = 0.0
        self._changed()

    def _abandon(self, attempt: TrialRunner) -> None:
        """End a job that is no longer ours to run, without a word in the storage."""
        _end_processes(attempt)
        self.places.release(attempt.slot, attempt.name)
        if attempt in self.attempts:
            self.attempts.remove(attempt)
        self._fill_at = 0.0

    def _release_failed(self, lease: Any, error: Exception) -> None:
        """Leave a trial to the next launch; this one ends with `error`, after its running jobs."""
        error = refusal(lease.name, error)
        with contextlib.suppress(PcanError):  # its lease ends with this process in any case
            lease.release("interrupted", cause=None, reason=str(error)[:500], seconds=0)
        self._drain_then_fail(error)


def _end_processes(attempt: TrialRunner) -> None:
    if attempt.process is not None:
        attempt.process.kill()
        attempt.process.reap()
