"""One job without a study: `pcan train`. The same run directory, judge and stop as in a sweep."""

import dataclasses
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.job.slots import Slot
from pipeline.launch.context import LaunchContext
from pipeline.launch.controller import POLL_INTERVAL_S
from pipeline.launch.launch import LaunchRequest, preflight
from pipeline.launch.reporters import Show
from pipeline.launch.scheduler import check_order
from pipeline.launch.slot_pool import POLL_S, SlotPool
from pipeline.launch.stop_requests import StopRequests
from pipeline.launch.trial_runner import TrialRunner
from pipeline.launch.wandb_reporter import MirrorLike, WandbReporter
from pipeline.launch.workdir import prepare
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.shared.spec import TrialSpec


@dataclasses.dataclass(kw_only=True)
class NullLease:
    """Stands where a lease stands: the right to run, but no storage to tell."""

    variant: str
    number: str
    token: str
    params: Mapping[str, Any]
    attempt: int = 1
    searched: bool = False

    @property
    def name(self) -> str:
        return f"{self.variant}/{self.number}"

    @property
    def previous(self) -> Mapping[str, Any]:
        return {"uid": self.token, "recipe_hash": None}

    def renew(self) -> None:
        """Nobody asks whether we live."""

    def report(
        self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]
    ) -> None:
        """The run directory holds everything."""

    def tell(self, state: str, history: Sequence[Measurement], **why: Any) -> None:
        """`outcome.json` holds it."""

    def release(self, phase: str, **why: Any) -> None:
        """`outcome.json` holds it."""


def train_one(
    request: LaunchRequest,
    slot: Slot,
    *,
    wait: bool = False,
    mirror: Callable[[Path], MirrorLike] | None = None,
) -> tuple[str, int]:
    """Train the one variant of an order as written.

    Args:
        wait: wait for GPUs that others use.

    Returns:
        Where the run lies, and the exit code.

    Raises:
        InputError: no such variant.
        NotReady: others use the GPUs.
    """
    sweep, project, show = request.sweep, request.project, request.show
    (variant,) = request.order.variants
    check_order(sweep, request.order)
    context = preflight(request, [slot], [variant])  # not what would make its starting weights
    lease = NullLease(
        variant=variant,
        number=_free_number(project, sweep, variant),
        token=secrets.token_hex(16),
        params={},
    )
    places = SlotPool([slot], wait, show.line)
    _take(places, lease.name, show)
    rundir = prepare(project, sweep, lease, context.configs(lease), context.place(slot), 1)
    attempt = TrialRunner(
        lease,
        rundir,
        lambda: context.rules(lease, rundir),
        slot,
        epochs=(rundir.read_spec() or TrialSpec()).epochs or 0,
        grace_s=sweep.job.stop_grace_s,
        next_of=lambda verdict: context.fallback_for(verdict, [variant]),
        say=show.line,
    )
    watch = WandbReporter(project.runs / sweep.name, mirror)
    stops = StopRequests(project.runs / sweep.name, sweep.job.stop_grace_s, show.line)
    with stops.signal_handlers():
        code = _follow(attempt, context, stops, show, watch)
    places.release(slot, lease.name)
    places.close()
    for line in watch.close():
        show.line(line)
    return str(rundir.root.relative_to(project.root)), code


def _take(places: SlotPool, name: str, show: Show) -> Slot:
    """Hold the slot, waiting for who uses it where that was asked for."""
    told = ""
    while (slot := places.acquire(name)) is None:
        if places.waiting != told:
            told = places.waiting
            show.line(f"{told}; waiting.")
        time.sleep(POLL_S)
    return slot


def _follow(
    attempt: TrialRunner,
    context: LaunchContext,
    stops: StopRequests,
    show: Show,
    watch: WandbReporter,
) -> int:
    attempt.start(context.command(attempt.slot), 1)
    try:
        while not attempt.ended():
            if attempt.poll():
                watch.changed()
            if stops.requested:
                attempt.request_stop(stops.outcome(), stops.grace_s)
            if stops.level >= 3 and attempt.process is not None:
                attempt.process.kill()
            attempt.check_stalled()
            attempt.enforce_deadline()
            show.live([attempt])
            stops.sleep(POLL_INTERVAL_S)
    finally:
        if attempt.process is not None and not attempt.ended():
            attempt.process.kill()
            attempt.process.reap()
    outcome = attempt.reap()
    attempt.write_outcome(outcome)
    watch.changed()
    if outcome.state == "FAIL":
        show.line(attempt.failure(outcome))
        return 3
    state = (outcome.state or "interrupted").lower()
    show.line(f"{attempt.name} {state}: {outcome.reason.rstrip('.')}.")
    return stops.exit_code


def _free_number(project: Project, sweep: Sweep, variant: str) -> str:
    """Return a folder name of its own; studies number their trials, these are `train-N`."""
    folder = project.runs / sweep.name / variant
    taken = {path.name for path in folder.glob("train-*")}
    return next(f"train-{n}" for n in range(len(taken) + 1) if f"train-{n}" not in taken)
