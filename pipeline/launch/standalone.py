"""One job without a study: `pcan train`. The same run directory, judge and stop as in a sweep."""

import secrets
import time

from pipeline.job.exit_cause import Outcome
from pipeline.job.slots import Slot
from pipeline.launch.context import CurrentContext, LaunchContext
from pipeline.launch.controller import POLL_INTERVAL_S
from pipeline.launch.launch import LaunchRequest, preflight
from pipeline.launch.reporters import LaunchResult, Reporter
from pipeline.launch.scheduler import check_order
from pipeline.launch.slot_pool import POLL_S, SlotPool
from pipeline.launch.stop_requests import StopRequests
from pipeline.launch.trial_history import LaunchedTrialRules
from pipeline.launch.trial_lease import NullLease
from pipeline.launch.trial_runner import TrialRunner
from pipeline.launch.workdir import write_workdir
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import State


def train_one(request: LaunchRequest, slot: Slot, *, wait: bool = False) -> tuple[str, int]:
    """Train the one variant of an order as written.

    Args:
        wait: wait for GPUs that others use.

    Returns:
        The run directory, relative to the project, and the exit code.

    Raises:
        InputError: no such variant.
        NotReady: others use the GPUs.
    """
    sweep, project, reporter = request.sweep, request.project, request.reporter
    (variant,) = request.order.variants
    check_order(sweep, request.order)
    context = preflight(request, [slot], [variant])  # not what would make its starting weights
    lease = NullLease(
        variant=variant,
        number=_free_number(project, sweep, variant),
        token=secrets.token_hex(16),
        params={},
    )
    slots = SlotPool([slot], wait, reporter)
    _acquire(slots, lease.name, reporter)
    trial = _open(context, lease, slot, reporter)
    stops = StopRequests(project.runs / sweep.name, sweep.job.stop_grace_s, reporter)
    with stops.signal_handlers():
        outcome = _run(trial, context, stops, reporter)
    slots.release(slot, lease.name)
    slots.close()
    result = _result(trial, outcome, stops)
    reporter.on_launch_end(result)
    return str(trial.rundir.root.relative_to(project.root)), result.exit_code


def _open(context: LaunchContext, lease: NullLease, slot: Slot, reporter: Reporter) -> TrialRunner:
    """Write the run directory and return the trial, ready to start."""
    rundir = write_workdir(context, lease, slot, 1)
    return TrialRunner(
        lease,
        rundir,
        LaunchedTrialRules(CurrentContext(context), lease, rundir, [lease.variant]),
        slot,
        epochs=(rundir.read_spec() or TrialSpec()).epochs or 0,
        grace_s=context.sweep.job.stop_grace_s,
        reporter=reporter,
    )


def _acquire(slots: SlotPool, name: str, reporter: Reporter) -> None:
    """Hold the slot, waiting for whoever uses it where that was asked for."""
    while slots.acquire(name) is None:
        reporter.on_status(f"{slots.blocked_by}; waiting.")
        time.sleep(POLL_S)


def _run(
    trial: TrialRunner, context: LaunchContext, stops: StopRequests, reporter: Reporter
) -> Outcome:
    """Run the job to its end; none of its processes is left."""
    trial.start(context.command(trial.slot), 1)
    try:
        while not trial.ended():
            trial.poll()
            trial.apply_stop_requests(stops)
            trial.check_stalled()
            trial.enforce_deadline()
            reporter.on_step_end([trial])
            stops.sleep(POLL_INTERVAL_S)
    finally:
        if not trial.ended():
            trial.kill()
    outcome = trial.reap()
    trial.write_outcome(outcome)
    details = trial.log_excerpt() if outcome.state == State.FAIL else ""
    reporter.on_trial_complete(trial, outcome, details)
    return outcome


def _result(trial: TrialRunner, outcome: Outcome, stops: StopRequests) -> LaunchResult:
    failed = outcome.state == State.FAIL
    return LaunchResult(
        why="",
        failed=(trial.name,) if failed else (),
        interrupted=outcome.state is None,
        exit_code=3 if failed else stops.exit_code,
    )


def _free_number(project: Project, sweep: Sweep, variant: str) -> str:
    """Return an unused folder name; studies number their trials, these are `train-N`."""
    folder = project.runs / sweep.name / variant
    taken = {path.name for path in folder.glob("train-*")}
    return next(f"train-{n}" for n in range(len(taken) + 1) if f"train-{n}" not in taken)
