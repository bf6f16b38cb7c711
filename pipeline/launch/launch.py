"""Start a launch: check, register, run the loop, mirror to W&B, sum up."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.job.slots import Slot
from pipeline.launch.budget import Budget
from pipeline.launch.context import LaunchContext
from pipeline.launch.controller import LaunchController
from pipeline.launch.enclosing_job import EnclosingJob
from pipeline.launch.notify import notifying
from pipeline.launch.overruled import audit_stamp
from pipeline.launch.pidfile import write_pidfile
from pipeline.launch.plan_reloader import PlanReloader, changed_verdicts
from pipeline.launch.registration import describe, register_all
from pipeline.launch.reporters import Show
from pipeline.launch.scheduler import RunOrder, candidates, check_order
from pipeline.launch.search_setup import start_search
from pipeline.launch.stop_requests import StopRequests
from pipeline.launch.wandb_reporter import MirrorLike, WandbReporter
from pipeline.plan.config_checks import ignored_settings
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.preflight.launch_checks import check_ready
from pipeline.preflight.machine_overrides import data_root
from pipeline.preflight.model_probe import DataPlacement, probe_models
from pipeline.preflight.plan_facts import resolve_and_check
from pipeline.study.audit import record_manual_start
from pipeline.study.best import eligible as candidates_of
from pipeline.study.db.storage import Storage

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
        notify: a command to tell of verdicts, failures and the end.
    """

    sweep: Sweep
    project: Project
    storage: Storage | None
    order: RunOrder
    sets: Mapping[str, Any]
    tracking: Mapping[str, Any]
    show: Show
    notify: Sequence[str] | None = None

    def make_folder(self) -> Path:
        """Return `runs/<sweep>`; it is made if it is missing."""
        folder = self.project.runs / self.sweep.name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchResult:
    """How a launch ended.

    Args:
        why: why nothing more is to be run, in the policy's words.
        failed: trials that failed here.
        interrupted: whether trials were given back unfinished.
        exit_code: as a script sees it; 0 also when gates pruned everything but a winner exists.
    """

    why: str
    failed: tuple[str, ...]
    interrupted: bool
    exit_code: int


def launch(
    request: LaunchRequest,
    slots: Sequence[Slot],
    *,
    wait: bool = False,
    budget: Budget | None = None,
    mirror: Callable[[Path], MirrorLike] | None = None,
    inside: EnclosingJob | None = None,
) -> LaunchResult:
    """Register if needed, then run until the plan is done.

    Args:
        wait: wait for GPUs that others hold.
        budget: what this launch may spend.
        mirror: starts the W&B side for `runs/<sweep>`; None: W&B is told nothing.
        inside: the scheduler's job that this launch runs in; it ends as soon as it has nothing
            to do, and is queued again when its time is up.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is half-written.
    """
    context, budget = _begun(request, slots, budget or Budget(), jump=inside is None)
    sweep, show, folder = request.sweep, request.show, request.make_folder()
    if inside is None:
        write_pidfile(folder)
    stops = _stops(sweep, folder, show, inside)
    watch = WandbReporter(folder, mirror)
    with notifying(request.notify, sweep.name, show.line) as notice, stops.signal_handlers():
        loop = LaunchController(
            context,
            stops,
            show,
            wait,
            changed=watch.changed,
            reread=PlanReloader(sweep, show.line),
            budget=budget,
            notice=notice,
            inside=inside,
        )
        plan = loop.run()
        for line in watch.close():
            show.line(line)
        finished = _finished(loop, context, plan.why, stops, alone=inside is None)
        if inside is None:
            notice("end", *summary(sweep, finished))
        elif stops.out_of_time and inside.requeue(loop.epochs, show.line):
            stops.sleep(ENDED_S)
    return finished


def _begun(
    request: LaunchRequest, slots: Sequence[Slot], budget: Budget, jump: bool
) -> tuple[LaunchContext, Budget]:
    context = prepare_launch(request, slots, jump)
    if request.order.search is None:
        return context, budget
    return start_search(context, budget, request.show.line)


def prepare_launch(
    request: LaunchRequest, slots: Sequence[Slot] = (), jump: bool = True
) -> LaunchContext:
    """Check everything and register: what a launch does before its first trial.

    Args:
        jump: record that variants were named, if they were.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is half-written.
    """
    sweep, order, say = request.sweep, request.order, request.show.line
    check_order(sweep, order)
    context = preflight(request, slots, candidates(sweep, order))
    registered = register_all(sweep, context.study_storage, context.resolution)
    for line in describe(registered):
        say(line)
    if order.variants and jump:
        record_manual_start(sweep, context.study_storage, order.variants, audit_stamp())
    if any(one.changed for one in registered):
        for line in changed_verdicts(sweep, request.project, context.rows()):
            say(line)
    return context


def preflight(
    request: LaunchRequest, slots: Sequence[Slot], variants: Sequence[str]
) -> LaunchContext:
    """Check that these variants can be run here; writes nothing.

    Raises:
        PcanError: the order, the data's place, a checkpoint, the disk, a variant's model.
    """
    sweep, project, say = request.sweep, request.project, request.show.line
    root = data_root(sweep, project, request.sets)
    check_ready(sweep, project, variants)
    resolution = resolve_and_check(sweep, project)
    for line in ignored_settings(sweep, {name: c.facts for name, c in resolution.configs.items()}):
        say(line)
    placed = DataPlacement(root=root, sets=request.sets)
    return LaunchContext(
        sweep=sweep,
        project=project,
        storage=request.storage,
        order=request.order,
        slots=slots,
        sets=request.sets,
        data_root=root,
        resolution=resolution,
        courses=probe_models(sweep, project, resolution, variants, say, placed),
        tracking=request.tracking,
    )


def _stops(sweep: Sweep, folder: Path, show: Show, inside: EnclosingJob | None) -> StopRequests:
    """Return what this launch listens to; in a scheduler's job, also to the scheduler."""
    if inside is None:
        return StopRequests(folder, sweep.job.stop_grace_s, show.line)
    notice_s = inside.warning_s - min(30.0, inside.warning_s / 4)
    return StopRequests(folder, sweep.job.stop_grace_s, show.line, notice_s, orphaned=True)


def _finished(
    loop: LaunchController, context: LaunchContext, why: str, stops: StopRequests, alone: bool
) -> LaunchResult:
    """Sum up; whether the sweep has a winner is not the matter of one job among others."""
    interrupted = any(o.state is None and o.cause != "paused" for o in loop.done)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (_went_wrong(loop, context) or (alone and not has_winner(context))):
        code = 3
    return LaunchResult(
        why="" if interrupted else why,  # of before the interruption
        failed=tuple(loop.failed),
        interrupted=interrupted,
        exit_code=code,
    )


def _went_wrong(loop: LaunchController, context: LaunchContext) -> bool:
    """Whether a trial failed that was not meant to; that some diverge is part of a search."""
    if context.order.search is None:
        return bool(loop.failed)
    return any(o.state == "FAIL" and o.cause != "nan" for o in loop.done)


def summary(sweep: Sweep, finished: LaunchResult) -> tuple[str, dict[str, Any]]:
    """Return the last sentence for `--notify`, and its facts."""
    why = "interrupted; the same launch goes on" if finished.interrupted else finished.why
    facts = {"exit_code": finished.exit_code, "failed": list(finished.failed)}
    return f"{sweep.name}: {why or 'stopped'} (exit code {finished.exit_code}).", facts


def has_winner(context: LaunchContext) -> bool:
    """Whether a variant of the plan completed; a maker of weights is no winner."""
    return bool(candidates_of(context.sweep, context.rows()))
