"""Start a launch: check, register, run the controller, sum up."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pipeline.errors import PcanError, StageWaits
from pipeline.job.slots import Slot
from pipeline.launch.budget import Budget
from pipeline.launch.context import EnclosingJob, LaunchContext, RunOrder, Schedule
from pipeline.launch.control_files import audit_stamp
from pipeline.launch.controller import LaunchController
from pipeline.launch.launch_process import opening_lines, write_pidfile
from pipeline.launch.plan_reloader import changed_verdicts
from pipeline.launch.reporters import LaunchResult, Reporter, report_error
from pipeline.launch.retries import retry_failed
from pipeline.launch.scheduler import candidates, check_order
from pipeline.launch.search_setup import start_search
from pipeline.launch.stop_requests import StopRequests
from pipeline.plan.config_checks import ignored_settings
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.preflight.launch_checks import check_ready, refuse_float16
from pipeline.preflight.machine_limits import machine_limits
from pipeline.preflight.machine_overrides import data_root
from pipeline.preflight.memory_check import held_memory
from pipeline.preflight.model_probe import DataPlacement, probe_models
from pipeline.preflight.plan_facts import resolve_and_check
from pipeline.shared.files import make_private
from pipeline.shared.states import Cause, State
from pipeline.study.audit import record_manual_start
from pipeline.study.best import eligible
from pipeline.study.db.storage import Storage
from pipeline.study.register import register_all, registration_lines
from pipeline.study.stages import Stages

#: How long a launch stays for the scheduler to end it: one that ends by itself while its job is
#: being queued again may be taken for a job that failed.
ENDED_S = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """What a launch was asked for, wherever its jobs are to run.

    Args:
        storage: None for a job without a study.
        order: which variants, how many trials.
        sets: `--set` by config path.
        tracking: mode, project and entity for W&B.
        command: as it was typed.
    """

    sweep: Sweep
    project: Project
    storage: Storage | None
    order: RunOrder
    sets: Mapping[str, Any]
    tracking: Mapping[str, Any]
    reporter: Reporter
    command: str = ""

    def make_folder(self) -> Path:
        """Return `runs/<sweep>`; it is made if it is missing."""
        folder = self.project.runs / self.sweep.name
        make_private(folder)
        return folder


def launch(
    request: LaunchRequest,
    slots: Sequence[Slot],
    *,
    wait: bool = False,
    budget: Budget | None = None,
    enclosing: EnclosingJob | None = None,
) -> LaunchResult:
    """Register if needed, then run until the plan is done.

    Args:
        wait: wait for GPUs that others hold.
        budget: what this launch may spend.
        enclosing: the scheduler's job that this launch runs in; it ends as soon as it has
            nothing to do, and is queued again when its time is up.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is half-written.
    """
    context = prepare_launch(request, slots, named=enclosing is None)
    budget, reporter = budget or Budget(), request.reporter
    if request.order.search is not None:
        context, budget = start_search(context, budget, reporter)
    folder = request.make_folder()
    if enclosing is None:
        write_pidfile(folder, request.command, request.sweep.path)
    stops = _stop_requests(request, folder, enclosing)
    controller = LaunchController(context, stops, reporter, wait, budget, enclosing)
    with report_error(reporter), stops.signal_handlers():
        schedule = controller.run()
        result = _result(controller, context, schedule, stops, alone=enclosing is None)
        reporter.on_launch_end(result)
        expired = enclosing if stops.out_of_time else None
        if expired is not None and expired.requeue(controller.epochs, reporter):
            stops.sleep(ENDED_S)
    return result


def prepare_launch(
    request: LaunchRequest, slots: Sequence[Slot] = (), named: bool = True
) -> LaunchContext:
    """Check everything and register: what a launch does before its first trial.

    Args:
        named: record that variants were named, if they were.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is half-written.
    """
    sweep, order, reporter = request.sweep, request.order, request.reporter
    check_order(sweep, order)
    notes: list[str] = []
    try:
        context = preflight(request, slots, candidates(sweep, order), notes.append)
    except PcanError:
        for line in notes:
            reporter.on_message(line)
        raise
    _refuse_waiting_stages(context)
    registered = register_all(sweep, context.study_storage, context.resolution.hashes)
    notes += registration_lines(registered)
    for line in opening_lines(notes, request.make_folder(), request.project):
        reporter.on_message(line)
    if order.variants and named:
        record_manual_start(sweep, context.study_storage, order.variants, audit_stamp())
    if named:
        for line in retry_failed(context):
            reporter.on_message(line)
    rows = context.rows()
    for line in Stages(sweep, rows, context.resolution.hashes).old_of(candidates(sweep, order)):
        reporter.on_message(line)
    if any(one.changed for one in registered):
        for line in changed_verdicts(sweep, request.project, rows):
            reporter.on_message(line)
    return context


def _refuse_waiting_stages(context: LaunchContext) -> None:
    """Refuse a named or searched stage whose earlier one neither is complete nor is to be run.

    Raises:
        StageWaits: with the command that runs the earlier stage.
    """
    order = context.order
    named = [order.search.variant] if order.search is not None else list(order.variants)
    waiting = Stages(context.sweep, context.rows(), context.resolution.hashes).waiting()
    for name in named:
        if name in waiting and context.sweep.variants[name].starts_from not in named:
            raise StageWaits(waiting[name])


def preflight(
    request: LaunchRequest,
    slots: Sequence[Slot],
    variants: Sequence[str],
    note: Callable[[str], None] | None = None,
) -> LaunchContext:
    """Check that these variants can be run here; writes nothing.

    Args:
        note: takes what a person should know of the plan; left out, it is reported.

    Raises:
        PcanError: the order, the data's place, a checkpoint, the disk, a variant's model.
    """
    sweep, project = request.sweep, request.project
    note = note or request.reporter.on_message
    root = data_root(sweep, project, request.sets)
    check_ready(sweep, project, variants)
    if slots:  # else the jobs run on other machines
        limits = machine_limits(len(slots), sweep.job.gpus)
        limits.refuse()
        for line in limits.likely:
            note(line)
    resolution = resolve_and_check(sweep, project)
    wanted = {name: resolution.configs[name] for name in variants if name in resolution.configs}
    refuse_float16(sweep, wanted, slots[0].device if slots else "")
    for line in ignored_settings(sweep, {name: c.facts for name, c in resolution.configs.items()}):
        note(line)
    placement = DataPlacement(root=root, sets=request.sets)
    with held_memory(slots, sweep.job.gpus) if slots else nullcontext() as memory:
        courses = probe_models(
            *(sweep, project, resolution, variants, note, placement), len(slots), memory
        )
    return LaunchContext(
        sweep=sweep,
        project=project,
        storage=request.storage,
        order=request.order,
        slots=slots,
        sets=request.sets,
        data_root=root,
        resolution=resolution,
        courses=courses,
        tracking=request.tracking,
    )


def has_winner(context: LaunchContext) -> bool:
    """Whether a variant of the plan completed; a maker of weights does not count."""
    return bool(eligible(context.sweep, context.rows()))


def _stop_requests(
    request: LaunchRequest, folder: Path, enclosing: EnclosingJob | None
) -> StopRequests:
    """Return what this launch listens to; in a scheduler's job, also to the scheduler."""
    grace_s, reporter = request.sweep.job.stop_grace_s, request.reporter
    if enclosing is None:
        return StopRequests(folder, grace_s, reporter)
    notice_s = enclosing.warning_s - min(30.0, enclosing.warning_s / 4)
    return StopRequests(folder, grace_s, reporter, notice_s, orphaned=True)


def _result(
    controller: LaunchController,
    context: LaunchContext,
    schedule: Schedule,
    stops: StopRequests,
    alone: bool,
) -> LaunchResult:
    """Sum up; how the whole sweep stands is left open by one job among others (not `alone`)."""
    interrupted = any(o.state is None and o.cause != Cause.PAUSED for o in controller.done)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (
        _failed(controller, context) or (alone and (schedule.failed or not has_winner(context)))
    ):
        code = 3
    return LaunchResult(
        why="" if interrupted else schedule.why,  # the schedule is older than the interruption
        failed=tuple(controller.failed),
        interrupted=interrupted,
        exit_code=code,
    )


def _failed(controller: LaunchController, context: LaunchContext) -> bool:
    """Whether a trial failed; in a search some are expected to diverge."""
    if context.order.search is None:
        return bool(controller.failed)
    return any(o.state == State.FAIL and o.cause != Cause.NAN for o in controller.done)
