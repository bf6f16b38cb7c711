"""The launcher: fill free slots with trials until the plan is done.

One process, one thread. It claims a trial, starts its job, follows all running jobs every tenth of
a second, and asks the policy what comes next whenever one has ended.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pipeline.errors import StorageError
from pipeline.job.ended import Outcome
from pipeline.job.rundir import read_json
from pipeline.job.slots import Slot
from pipeline.launch.attempt import Attempt
from pipeline.launch.budget import Budget
from pipeline.launch.context import Context
from pipeline.launch.notify import Notice, no_notice
from pipeline.launch.places import Places
from pipeline.launch.policy import Next
from pipeline.launch.prepare import prepare, run_dir, set_aside
from pipeline.launch.stops import Stops
from pipeline.launch.weights import export_made
from pipeline.study.board import TrialRow
from pipeline.study.claim import busy, claim
from pipeline.study.lease import Lease, LeaseLost

TICK_S = 0.1
IDLE_S = 2.0
#: Of a trial's spec, what the storage keeps as well.
_FACTS = ("epochs", "seed", "data", "wandb", "device", "nproc", "continues")


class Show(Protocol):
    """What the user sees of a launch."""

    def line(self, text: str) -> None:
        """Print one line that stays."""

    def live(self, attempts: Sequence[Attempt]) -> None:
        """Refresh the picture of the running jobs."""


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
    ) -> None:
        self.context = context
        self.stops = stops
        self.show = show
        self.attempts: list[Attempt] = []
        self.done: list[Outcome] = []
        self.failed: list[str] = []
        self.places = Places(context.slots, wait, show.line)
        self._changed = changed
        self._reread = reread
        self._budget = budget or Budget()
        self._notice = notice
        self._given_back: set[int] = set()
        self._restarts: dict[str, int] = {}
        self._progress: dict[str, int] = {}
        self._told = ""

    def run(self) -> Next:
        """Run until the plan is done or the launch is stopped.

        Returns:
            What the policy said last: nothing more is wanted, and why.
        """
        try:
            while True:
                plan = self._fill()
                if not self.attempts and (self.stops.asked or not self._wait(plan)):
                    self.places.close()
                    return plan
                self._tick()
        finally:
            for attempt in self.attempts:
                if attempt.process is not None:
                    attempt.process.kill()

    def _fill(self) -> Next:
        """Claim and start trials while there are free slots and something is wanted."""
        context = self.context
        rows = context.rows()
        plan = context.plan(rows)
        names = [want.variant for want in plan.wanted]
        for line in export_made(context.sweep, context.project, rows, names):
            self.show.line(line)
        self.places.waiting = ""
        while not self.stops.asked and self._claimable(plan, rows):
            slot = self.places.take(context.sweep.name)
            if slot is None:
                break
            lease = claim(context.sweep, context.study_storage, plan.wanted, skip=self._given_back)
            if lease is None:
                self.places.give_back(slot)
                break
            self._begin(lease, slot, rows)
            rows = context.rows()
        return plan

    def _claimable(self, plan: Next, rows: Sequence[TrialRow]) -> bool:
        """Whether a wanted trial is likely to be had; asking the driver for less is a waste."""
        for want in plan.wanted:
            mine = [r for r in rows if r.variant == want.variant and not r.superseded]
            if len(mine) < want.trials and self.context.sweep.variants[want.variant].space:
                return True
            mine = [r for r in mine if r.trial_id not in self._given_back]
            if any(r.phase not in ("done", "running") for r in mine):
                return True
        return False

    def _wait(self, plan: Next) -> bool:
        """Wait while another launcher runs what is wanted; False if there is nothing to await."""
        context = self.context
        if self.places.clearing:
            return True
        if self.places.waiting:
            self._tell_once(f"{self.places.waiting}; waiting.")
            self.stops.sleep(IDLE_S)
            return not self.stops.asked
        others = busy(context.sweep, context.study_storage, [want.variant for want in plan.wanted])
        if not others:
            return False
        told = ", ".join(f"{other.variant}/{other.number} ({other.owner})" for other in others)
        self._tell_once(f"Another launch runs {told}; waiting to take over what it leaves.")
        self.stops.sleep(IDLE_S)
        return not self.stops.asked

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self.show.line(text)
            self._told = text

    def _begin(self, lease: Lease, slot: Slot, rows: Sequence[TrialRow]) -> None:
        """Start the job of a claimed trial, or end the trial if earlier attempts settled it."""
        context = self.context
        try:
            rundir = run_dir(context.project, context.sweep.name, lease.variant, lease.number)
            settled = read_json(rundir.outcome)
            configs = context.configs(lease)
            place = context.place(slot)
            prepare(context.project, context.sweep, lease, configs, place, lease.attempt)
        except BaseException:
            self.places.give_back(slot)
            lease.release("interrupted", cause=None, reason="the start did not succeed", seconds=0)
            raise
        spec = read_json(rundir.spec) or {}
        tried = [row.variant for row in rows if row.attempt > 0] + [lease.variant]
        attempt = Attempt(
            lease,
            rundir,
            lambda: self.context.rules(lease, rundir),
            slot,
            epochs=int(spec["epochs"]),
            grace_s=context.sweep.job.stop_grace_s,
            next_of=lambda verdict: self.context.next_of(verdict, tried),
            say=self.show.line,
            notice=self._notice,
        )
        facts = {key: spec[key] for key in _FACTS if spec[key] is not None}
        lease.begin(str(rundir.root.relative_to(context.project.root)), slot.shown, facts)
        self._tell_taken_up(lease)
        outcome = _settled(attempt, settled)
        if outcome is not None:
            self._close(attempt, outcome)
            return
        self.attempts.append(attempt)
        self._start(attempt)

    def _start(self, attempt: Attempt) -> None:
        self._progress[attempt.name] = len(attempt.history)
        number = attempt.lease.attempt + self._restarts.get(attempt.name, 0)
        attempt.start(self.context.command(attempt.slot), number)

    def _tick(self) -> None:
        self._take_up_changes()
        spent = self._budget.used_up(self.attempts, self.context.sweep.job.gpus)
        if spent is not None:
            self.stops.spent(spent)
        for attempt in list(self.attempts):
            try:
                self._tick_one(attempt)
            except LeaseLost as lost:
                self.show.line(str(lost))
                self._drop(attempt)
        self.places.poll()
        self.show.live(self.attempts)
        self.stops.sleep(TICK_S)

    def _take_up_changes(self) -> None:
        """Go on by the sweep file as it is now, if it has changed."""
        changed = self._reread(self.context)
        if changed is None:
            return
        self.context = changed
        for attempt in self.attempts:
            attempt.grace_s = changed.sweep.job.stop_grace_s
            attempt.judge_anew()

    def _tick_one(self, attempt: Attempt) -> None:
        if attempt.follow():
            self._changed()
        self._apply_stops(attempt)
        attempt.press()
        if not attempt.ended():
            return
        outcome = attempt.collect()
        if self._may_restart(attempt, outcome):
            self._restart(attempt, outcome)
        else:
            self.attempts.remove(attempt)
            self._close(attempt, outcome)

    def _apply_stops(self, attempt: Attempt) -> None:
        """Pass on what was asked for: stop after the epoch, now, at once, or out of time."""
        if self.stops.asked:
            attempt.request_stop(self.stops.outcome(), self.stops.grace_s)
        if self.stops.level >= 3 and attempt.process is not None:
            attempt.process.kill()
        job = self.context.sweep.job
        if job.max_hours is None or attempt.process is None or attempt.stopping is not None:
            return
        if attempt.process.seconds > 3600 * job.max_hours:
            reason = f"the time limit of {job.max_hours:g} h (job.max_hours) is reached"
            late = Outcome(state=None, cause="timeout", reason=reason)
            attempt.request_stop(late, job.stop_grace_s)

    def _may_restart(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Whether the cause of a failed job may be mended by starting it again.

        The sweep file's bound counts starts without a new epoch; a checkpoint that the job
        refused makes way for the one before.
        """
        if outcome.state != "FAIL" or self.stops.asked or attempt.ending is not None:
            return False
        if outcome.cause == "bad_checkpoint":
            return bool((read_json(attempt.rundir.spec) or {}).get("resume"))
        if len(attempt.history) > self._progress[attempt.name]:
            self._restarts[attempt.name] = 0
        allowed = self.context.sweep.job.retry.get(outcome.cause or "", 0)
        return self._restarts.get(attempt.name, 0) < allowed

    def _restart(self, attempt: Attempt, outcome: Outcome) -> None:
        context, lease = self.context, attempt.lease
        if outcome.cause == "bad_checkpoint":
            set_aside(attempt.rundir, str((read_json(attempt.rundir.spec) or {})["resume"]))
        self._restarts[attempt.name] = self._restarts.get(attempt.name, 0) + 1
        self.show.line(f"{attempt.name}: {outcome.reason} ({outcome.cause}); starting it again.")
        number = lease.attempt + self._restarts[attempt.name]
        place = context.place(attempt.slot)
        prepare(context.project, context.sweep, lease, context.configs(lease), place, number)
        attempt.expect_more()
        self._start(attempt)

    def _close(self, attempt: Attempt, outcome: Outcome) -> None:
        """End a trial in the storage, and say how it ended and what comes next."""
        self.places.give_back(attempt.slot, attempt.name)
        while True:
            try:
                attempt.finish(outcome)
                break
            except StorageError as error:
                self._tell_once(f"{attempt.name}: {error} Trying again every few seconds.")
                if not self.stops.patient(IDLE_S):
                    raise
        self._budget.ended(attempt, self.context.sweep.job.gpus)
        self.done.append(outcome)
        if outcome.state is None:
            self._given_back.add(int(attempt.lease.previous["trial_id"]))
        if outcome.state == "FAIL":
            self.failed.append(attempt.name)
            self.show.line(attempt.failure(outcome))
            told = f"{attempt.name} failed ({outcome.cause}): {outcome.reason}"
            facts = {"trial": attempt.name, "cause": outcome.cause, "reason": outcome.reason}
            self._notice("failure", told, facts)
        else:
            self.show.line(self._ending(attempt, outcome))
        self._changed()

    def _drop(self, attempt: Attempt) -> None:
        """End a job whose trial is no longer ours, without a word in the storage."""
        if attempt.process is not None:
            attempt.process.kill()
            attempt.process.sweep_up()
        self.places.give_back(attempt.slot, attempt.name)
        self.attempts.remove(attempt)

    def _ending(self, attempt: Attempt, outcome: Outcome) -> str:
        if outcome.state is None:
            return f"{attempt.name} interrupted: {outcome.reason}. Run the same launch to go on."
        reason = f": {outcome.reason.rstrip('.')}" if outcome.reason else ""
        line = f"{attempt.name} {outcome.state.lower()}{reason}."
        follower = None if attempt.lease.searched else self.context.follower(attempt.lease.variant)
        if follower is None:
            return line
        plan = self.context.sweep.variants[follower].plan
        return f"{line} The plan's next step: {follower}{f' ({plan})' if plan else ''}."

    def _tell_taken_up(self, lease: Lease) -> None:
        before: dict[str, Any] = dict(lease.previous)
        if before["phase"] == "running":
            gone = f"its launcher (pid {before['pid']}) is gone"
            self.show.line(f"{lease.name}: {gone}; it is taken up again as the same trial.")


def _settled(attempt: Attempt, earlier: dict[str, Any] | None) -> Outcome | None:
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
