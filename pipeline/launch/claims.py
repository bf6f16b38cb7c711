"""Claim the trials that a launch starts next, and prepare each for the start of its job."""

import dataclasses
from collections.abc import Callable, Sequence

from pipeline.errors import NotReady
from pipeline.job.exit_cause import Outcome
from pipeline.job.slots import Slot
from pipeline.launch.completion import CompletionQueue, outcome_of_earlier_start, prune_paused
from pipeline.launch.context import CurrentContext, EnclosingJob, LaunchContext, Schedule
from pipeline.launch.reporters import Reporter
from pipeline.launch.resume_checkpoint import (
    quarantine_checkpoint,
    quarantine_damaged,
    rejected_checkpoint,
)
from pipeline.launch.scheduler import claimable, schedule
from pipeline.launch.search import lost_checkpoint
from pipeline.launch.slot_pool import SlotPool
from pipeline.launch.starting_weights import publish_made_weights, register_stages
from pipeline.launch.stop_requests import StopRequests
from pipeline.launch.trial_history import LaunchedTrialRules
from pipeline.launch.trial_runner import TrialRunner
from pipeline.launch.workdir import (
    check_ownership,
    run_dir,
    spec_facts,
    take_ownership,
    write_workdir,
)
from pipeline.shared.counted import counted
from pipeline.shared.files import make_private, read_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Phase
from pipeline.study.claim import busy, claim
from pipeline.study.lease import Lease
from pipeline.study.trial_rows import TrialRow

IDLE_S = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimedTrial:
    """A claimed trial with the slot that its job will run on.

    Args:
        rows: the sweep's trials at the time of the claim.
    """

    lease: Lease
    slot: Slot
    rows: Sequence[TrialRow]


class TrialClaimer:
    """Claims what the schedule wants for the free slots, and opens what was claimed.

    Args:
        enclosing: the scheduler's job that this launch runs in.
    """

    def __init__(
        self,
        current: CurrentContext,
        slots: SlotPool,
        completion: CompletionQueue,
        stops: StopRequests,
        reporter: Reporter,
        enclosing: EnclosingJob | None,
    ) -> None:
        #: What is wanted, as of the last call.
        self.schedule = Schedule(requests=())
        self._current = current
        self._slots = slots
        self._completion = completion
        self._stops = stops
        self._reporter = reporter
        self._enclosing = enclosing

    def claim_and_start(
        self, accepting: Callable[[], bool], start: Callable[[ClaimedTrial], None]
    ) -> None:
        """Claim and start trials while there are free slots and something is wanted.

        Args:
            accepting: whether trials may still be started.
            start: starts the job of a claimed trial.
        """
        context = self._current.value
        self._slots.blocked_by = ""
        rows = context.rows()
        wanted = schedule(context, rows)
        if wanted.to_prune:
            prune_paused(context, wanted.to_prune, self._reporter)
            rows = context.rows()
            wanted = schedule(context, rows)
        self.schedule = wanted
        names = [request.variant for request in wanted.requests]
        for line in publish_made_weights(context.sweep, context.project, rows, names):
            self._reporter.on_message(line)
        rows = register_stages(context, wanted, rows, self._reporter.on_message)
        remote = {row.trial_id for row in rows if _remote_host(context, row)}
        skip = self._completion.released | remote
        while accepting() and claimable(context.sweep, wanted, rows, skip):
            slot = self._slots.acquire(context.sweep.name)
            if slot is None:
                break
            try:
                lease = claim(context.sweep, context.study_storage, wanted.requests, skip=skip)
            except BaseException:  # a storage that is locked or away: the next look tries again
                self._slots.release(slot)
                raise
            if lease is None:
                self._slots.release(slot)
                break
            start(ClaimedTrial(lease=lease, slot=slot, rows=rows))
            rows = context.rows()

    def wait_for_others(self) -> bool:
        """Wait while another launcher runs what is wanted; False if there is nothing to await.

        Raises:
            NotReady: only another host can resume what is wanted.
        """
        if self._slots.draining:
            return True
        if self._slots.blocked_by:
            self._reporter.on_status(f"{self._slots.blocked_by}; waiting.")
        else:
            others = self._running_elsewhere()
            if not others:
                _refuse_remote_trials(self._current.value, self.schedule)
                return False
            self._reporter.on_status(
                f"Another launch runs {others}; waiting to take over what it leaves."
            )
        self._stops.sleep(IDLE_S)
        return not self._stops.requested

    def open(self, claimed: ClaimedTrial) -> tuple[TrialRunner, Outcome | None]:
        """Make a claimed trial ready to start: its run directory and its row in the storage.

        Returns:
            The trial, and how it ended if an earlier attempt decided that.

        Raises:
            PcanError, OSError: the run directory cannot be written, or belongs to another trial.
        """
        context, lease = self._current.value, claimed.lease
        rundir = run_dir(context.project, context.sweep.name, lease.variant, lease.number)
        check_ownership(context.project, rundir, lease)
        take_ownership(context.project, rundir, lease)
        earlier = read_json(rundir.outcome)
        rejected = rejected_checkpoint(rundir, earlier)
        damaged = quarantine_damaged(rundir)
        if rejected is not None:
            damaged.append(quarantine_checkpoint(rundir, rejected) or "")
            earlier = None
        for line in filter(None, damaged):
            self._reporter.on_message(f"{lease.name}: {line}")
        lost = lost_checkpoint(lease, rundir)
        if lost is not None:
            make_private(rundir.checkpoints)
        elif earlier is None or earlier.get("state") is None:
            write_workdir(context, lease, claimed.slot, lease.attempt)
        trial = self._make_runner(claimed, rundir)
        self._record_start(claimed, rundir, keep=lost is not None)
        return trial, lost or outcome_of_earlier_start(trial, earlier)

    def _make_runner(self, claimed: ClaimedTrial, rundir: RunDir) -> TrialRunner:
        lease, spec = claimed.lease, rundir.read_spec() or TrialSpec()
        tried = [row.variant for row in claimed.rows if row.attempt > 0] + [lease.variant]
        # The ladder follows neither a repetition nor a trial of a search.
        followed = not (spec.confirms or spec.search)
        return TrialRunner(
            lease,
            rundir,
            LaunchedTrialRules(self._current, lease, rundir, tried if followed else None),
            claimed.slot,
            epochs=spec.epochs or 0,
            grace_s=self._current.value.sweep.job.stop_grace_s,
            reporter=self._reporter,
        )

    def _record_start(self, claimed: ClaimedTrial, rundir: RunDir, keep: bool) -> None:
        """Write into the storage where and on what the trial runs.

        Args:
            keep: keep the facts that are stored already: the run directory may have lost its own.
        """
        lease = claimed.lease
        facts = spec_facts(rundir.read_spec() or TrialSpec())
        if keep:
            facts = {**lease.facts, **facts}
        if self._enclosing is not None:
            facts["job"] = self._enclosing.record()
        folder = str(rundir.root.relative_to(self._current.value.project.root))
        lease.begin(folder, claimed.slot.shown, facts)

    def _running_elsewhere(self) -> str:
        """Return which wanted trials other launches run, "" if there is nothing to wait for.

        In a scheduler's job only what the same job runs, or nothing renews any longer, is worth
        the wait: its GPUs are not kept idle for what others may leave.
        """
        context = self._current.value
        variants = [request.variant for request in self.schedule.requests]
        others = busy(context.sweep, context.study_storage, variants)
        if self._enclosing is not None:
            others = [o for o in others if o.lapsed or o.job == self._enclosing.id]
        return ", ".join(f"{other.variant}/{other.number} ({other.owner})" for other in others)


def takeover_message(lease: Lease) -> str | None:
    """Return a line on a trial whose launcher has died, None for any other."""
    if lease.previous["phase"] != Phase.RUNNING:
        return None
    return (
        f"{lease.name}: its launcher (pid {lease.previous['pid']}) is gone; it is resumed as the "
        "same trial."
    )


def _remote_host(context: LaunchContext, row: TrialRow) -> str | None:
    """Return the host that has the epochs of an unfinished trial, None if they are here."""
    return row.remote_host(context.project.root) if row.epoch and not row.finished else None


def _refuse_remote_trials(context: LaunchContext, wanted: Schedule) -> None:
    """Raise NotReady if a wanted trial was started in a run directory that is not seen here."""
    names = {request.variant for request in wanted.requests}
    for row in context.rows():
        host = _remote_host(context, row)
        if host is not None and row.variant in names:
            raise NotReady(
                f"{row.name} was started on {host} and has "
                f"{counted(row.epoch, 'epoch')} in {row.run_dir} "
                f"there, which is not seen here. Launch it on {host}, or let both hosts see "
                "one project folder."
            )
