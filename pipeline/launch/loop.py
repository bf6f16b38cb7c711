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
from pipeline.job.ended import Outcome
from pipeline.job.files import read_json
from pipeline.job.slots import Slot
from pipeline.launch.attempt import Attempt
from pipeline.launch.budget import Budget
from pipeline.launch.context import Context
from pipeline.launch.endings import Endings
from pipeline.launch.engine import Inside
from pipeline.launch.filling import Filling
from pipeline.launch.notify import Notice, no_notice
from pipeline.launch.places import Places
from pipeline.launch.policy import Next
from pipeline.launch.prepare import set_aside
from pipeline.launch.retry import Retries, spoiled
from pipeline.launch.searching import spent_by_others
from pipeline.launch.show import Show
from pipeline.launch.stopping import pass_on
from pipeline.launch.stops import Stops
from pipeline.launch.taking_up import make_ready, take_up, told_taken_up
from pipeline.launch.wording import error_text, refusal
from pipeline.study.board import TrialRow
from pipeline.study.lease import Lease, LeaseLost

TICK_S = 0.1
#: How often a free slot asks the storage for work while other jobs run.
FILL_S = 5.0


class Loop:
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
        context: Context,
        stops: Stops,
        show: Show,
        wait: bool = False,
        changed: Callable[[], None] = lambda: None,
        reread: Callable[[Context], Context | None] = lambda context: None,
        budget: Budget | None = None,
        notice: Notice = no_notice,
        inside: Inside | None = None,
    ) -> None:
        self.context = context
        self.stops = stops
        #: Epochs measured in this launch.
        self.epochs = 0
        self._inside = inside
        self.show = show
        self.attempts: list[Attempt] = []
        self.endings = Endings(context, stops, show.line, notice)
        self.places = Places(context.slots, wait, show.line)
        self._filling = Filling(self.places, self.endings, stops, show.line, inside)
        self._changed = changed
        self._reread = reread
        self._budget = budget or Budget()
        self._notice = notice
        self._retries = Retries(context.sweep.job.retry)
        self._plan = Next(wanted=())
        self._fill_at = 0.0
        self._error: Exception | None = None

    @property
    def done(self) -> list[Outcome]:
        return self.endings.done

    @property
    def failed(self) -> list[str]:
        return self.endings.failed

    def run(self) -> Next:
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
                    if self.stops.asked or not self._filling.wait(self.context, self._plan):
                        if self.stops.level < 2:
                            self.places.close()
                        return self._plan
                self._tick()
        finally:
            for attempt in self.attempts:
                _end_processes(attempt)

    def _fill_if_due(self) -> None:
        """Fill free slots: at once when a trial has ended, else every few seconds."""
        if not self._open():
            return
        if len(self.attempts) == len(self.context.slots) or time.monotonic() < self._fill_at:
            return
        storage = self.context.study_storage
        try:
            with contextlib.nullcontext() if self._idle else storage.hasty():
                self._plan = self._filling.fill(
                    self.context, self._open, self._begin, self._changed
                )
        except StorageError as error:
            if self._idle:
                raise
            self._filling.tell_once(f"{error} Running trials go on.")
        except Exception as error:
            if self._idle:
                raise
            self._end_with(error)
        self._fill_at = time.monotonic() + (FILL_S if self.attempts else 0.0)

    @property
    def _idle(self) -> bool:
        """Whether nothing runs and the storage has heard of everything."""
        return not self.attempts and not self.endings.pending

    def _end_with(self, error: Exception) -> None:
        """Begin nothing more, and end with this error once the running trials have ended."""
        self._error = self._error or error
        if self.attempts:
            self._filling.tell_once(
                f"{error_text(error)}\nThe running trials go on; no other is begun."
            )

    def _open(self) -> bool:
        """Whether trials may be begun."""
        return self._error is None and not self.stops.asked

    def _begin(self, lease: Lease, slot: Slot, rows: Sequence[TrialRow]) -> None:
        """Start the job of a claimed trial, or end the trial if earlier attempts settled it."""
        try:
            attempt, outcome = take_up(
                lambda: self.context, lease, slot, rows, self.show.line, self._notice, self._inside
            )
        except Exception as error:
            self.places.give_back(slot)
            self._give_back(lease, error)
            return
        told = told_taken_up(lease)
        if told is not None:
            self.show.line(told)
        if outcome is not None:
            self._close(attempt, outcome)
            return
        self.epochs -= len(attempt.history)
        self.attempts.append(attempt)
        self._start(attempt)

    def _start(self, attempt: Attempt) -> None:
        number = self._retries.started(attempt)
        attempt.start(self.context.command(attempt.slot), number)

    def _tick(self) -> None:
        spent = self._budget.used_up(self.attempts, self.context.sweep.job.gpus)
        if spent is not None:
            self.stops.spent(spent)
        with self.context.study_storage.hasty():
            try:
                self._take_up_changes()
            except Exception as error:
                self._end_with(error)
            for attempt in list(self.attempts):
                try:
                    self._tick_one(attempt)
                except LeaseLost as lost:
                    self.show.line(str(lost))
                    self._drop(attempt)
                except Exception as error:
                    self._drop(attempt)
                    self._give_back(attempt.lease, error)
            try:
                self.endings.tell(alone=not self.attempts)
            except StorageError as error:
                self._error = self._error or error
        self.places.poll()
        self.show.live(self.attempts)
        self.stops.sleep(TICK_S)

    def _take_up_changes(self) -> None:
        """Go on by the sweep file as it is now, if it has changed."""
        changed = self._reread(self.context)
        if changed is None:
            return
        self.context = self.endings.context = changed
        self._retries.bounds = changed.sweep.job.retry
        self._fill_at = 0.0
        for attempt in self.attempts:
            attempt.grace_s = changed.sweep.job.stop_grace_s
            attempt.judge_anew()

    def _tick_one(self, attempt: Attempt) -> None:
        if attempt.follow():
            self._count_others()
            self._changed()
        pass_on(self.stops, attempt, self.context.sweep.job)
        attempt.watch()
        attempt.press()
        if not attempt.ended():
            return
        outcome = attempt.collect()
        if not self.stops.asked and self._retries.allowed(attempt, outcome):
            self._restart(attempt, outcome)
        else:
            self.attempts.remove(attempt)
            self.epochs += len(attempt.history)
            self._close(attempt, outcome)

    def _count_others(self) -> None:
        """Ask what other launches have spent of a search's hours: an epoch may go beyond them."""
        mine = [int(attempt.lease.previous["trial_id"]) for attempt in self.attempts]
        with contextlib.suppress(StorageError):
            spent = spent_by_others(self.context, mine)
            if spent is not None:
                self._budget.count_from(spent)

    def _restart(self, attempt: Attempt, outcome: Outcome) -> None:
        refused = spoiled(attempt.rundir, read_json(attempt.rundir.outcome))
        if refused is not None:
            set_aside(attempt.rundir, refused)
        reason = outcome.reason.rstrip(".")
        self.show.line(f"{attempt.name}: {reason} ({outcome.cause}); starting it again.")
        start = self._retries.next_start(attempt)
        make_ready(self.context, attempt.lease, attempt.slot, start)
        attempt.expect_more()
        self._start(attempt)

    def _close(self, attempt: Attempt, outcome: Outcome) -> None:
        """Give the slot to the next, and have the end of the trial told."""
        self.places.give_back(attempt.slot, attempt.name)
        self._budget.ended(attempt, self.context.sweep.job.gpus)
        wrong = self.endings.add(attempt, outcome)
        self._error = self._error or wrong
        with contextlib.suppress(StorageError):
            self.endings.tell(alone=False)
        self._fill_at = 0.0
        self._changed()

    def _drop(self, attempt: Attempt) -> None:
        """End a job that is no longer ours to run, without a word in the storage."""
        _end_processes(attempt)
        self.places.give_back(attempt.slot, attempt.name)
        if attempt in self.attempts:
            self.attempts.remove(attempt)
        self._fill_at = 0.0

    def _give_back(self, lease: Any, error: Exception) -> None:
        """Leave a trial to the next launch; this one ends with `error`, after its running jobs."""
        error = refusal(lease.name, error)
        with contextlib.suppress(PcanError):  # its lease ends with this process in any case
            lease.release("interrupted", cause=None, reason=str(error)[:500], seconds=0)
        self._end_with(error)


def _end_processes(attempt: Attempt) -> None:
    if attempt.process is not None:
        attempt.process.kill()
        attempt.process.sweep_up()
