"""Start a launch: check, register, run the loop, mirror to W&B, sum up."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.job.slots import Slot
from pipeline.launch.budget import Budget
from pipeline.launch.context import Context
from pipeline.launch.engine import Inside
from pipeline.launch.loop import Loop
from pipeline.launch.machine import data_root
from pipeline.launch.mirroring import Mirroring, MirrorLike
from pipeline.launch.notify import notifying
from pipeline.launch.overruled import signed
from pipeline.launch.policy import Order, candidates, check_order
from pipeline.launch.ready import check_ready
from pipeline.launch.record import note_launch
from pipeline.launch.registering import describe, register_all, resolved
from pipeline.launch.rehearse import Placed, rehearsed
from pipeline.launch.reread import Reread, told_anew
from pipeline.launch.search_start import begun
from pipeline.launch.show import Show
from pipeline.launch.slurm import lead_s, queue_again
from pipeline.launch.stops import Stops
from pipeline.plan.against import mended
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.study.best import eligible as candidates_of
from pipeline.study.decisions import note_jump
from pipeline.study.storage import Storage

#: How long a launch stays for the scheduler to end it: one that ends by itself while its job is
#: being queued again may be taken for a job that failed.
ENDED_S = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
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
    order: Order
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
class Finished:
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
    request: Request,
    slots: Sequence[Slot],
    *,
    wait: bool = False,
    budget: Budget | None = None,
    mirror: Callable[[Path], MirrorLike] | None = None,
    inside: Inside | None = None,
) -> Finished:
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
        note_launch(folder)
    stops = _stops(sweep, folder, show, inside)
    watch = Mirroring(folder, mirror)
    with notifying(request.notify, sweep.name, show.line) as notice, stops.listening():
        loop = Loop(
            context,
            stops,
            show,
            wait,
            changed=watch.changed,
            reread=Reread(sweep, show.line),
            budget=budget,
            notice=notice,
            inside=inside,
        )
        plan = loop.run()
        for line in watch.close():
            show.line(line)
        finished = _finished(loop, context, plan.why, stops, alone=inside is None)
        if inside is None:
            notice("end", *told(sweep, finished))
        elif stops.out_of_time and queue_again(inside, loop.epochs, show.line):
            stops.sleep(ENDED_S)
    return finished


def _begun(
    request: Request, slots: Sequence[Slot], budget: Budget, jump: bool
) -> tuple[Context, Budget]:
    context = ready(request, slots, jump)
    if request.order.search is None:
        return context, budget
    return begun(context, budget, request.show.line)


def ready(request: Request, slots: Sequence[Slot] = (), jump: bool = True) -> Context:
    """Check everything and register: what a launch does before its first trial.

    Args:
        jump: record that variants were named, if they were.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is half-written.
    """
    sweep, order, say = request.sweep, request.order, request.show.line
    check_order(sweep, order)
    context = checked(request, slots, candidates(sweep, order))
    registered = register_all(sweep, context.study_storage, context.resolution)
    for line in describe(registered):
        say(line)
    if order.variants and jump:
        note_jump(sweep, context.study_storage, order.variants, signed())
    if any(one.changed for one in registered):
        for line in told_anew(sweep, request.project, context.rows()):
            say(line)
    return context


def checked(request: Request, slots: Sequence[Slot], variants: Sequence[str]) -> Context:
    """Check that these variants can be run here; writes nothing.

    Raises:
        PcanError: the order, the data's place, a checkpoint, the disk, a variant's model.
    """
    sweep, project, say = request.sweep, request.project, request.show.line
    root = data_root(sweep, project, request.sets)
    check_ready(sweep, project, variants)
    resolution = resolved(sweep, project)
    for line in mended(sweep, {name: c.facts for name, c in resolution.configs.items()}):
        say(line)
    placed = Placed(root=root, sets=request.sets)
    return Context(
        sweep=sweep,
        project=project,
        storage=request.storage,
        order=request.order,
        slots=slots,
        sets=request.sets,
        data_root=root,
        resolution=resolution,
        courses=rehearsed(sweep, project, resolution, variants, say, placed),
        tracking=request.tracking,
    )


def _stops(sweep: Sweep, folder: Path, show: Show, inside: Inside | None) -> Stops:
    """Return what this launch listens to; in a scheduler's job, also to the scheduler."""
    if inside is None:
        return Stops(folder, sweep.job.stop_grace_s, show.line)
    lead = lead_s(sweep)
    notice_s = lead - min(30.0, lead / 4)
    return Stops(folder, sweep.job.stop_grace_s, show.line, notice_s, orphaned=True)


def _finished(loop: Loop, context: Context, why: str, stops: Stops, alone: bool) -> Finished:
    """Sum up; whether the sweep has a winner is not the matter of one job among others."""
    interrupted = any(o.state is None and o.cause != "paused" for o in loop.done)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (_went_wrong(loop, context) or (alone and not eligible(context))):
        code = 3
    return Finished(
        why="" if interrupted else why,  # of before the interruption
        failed=tuple(loop.failed),
        interrupted=interrupted,
        exit_code=code,
    )


def _went_wrong(loop: Loop, context: Context) -> bool:
    """Whether a trial failed that was not meant to; that some diverge is part of a search."""
    if context.order.search is None:
        return bool(loop.failed)
    return any(o.state == "FAIL" and o.cause != "nan" for o in loop.done)


def told(sweep: Sweep, finished: Finished) -> tuple[str, dict[str, Any]]:
    """Return the last sentence for `--notify`, and its facts."""
    why = "interrupted; the same launch goes on" if finished.interrupted else finished.why
    facts = {"exit_code": finished.exit_code, "failed": list(finished.failed)}
    return f"{sweep.name}: {why or 'stopped'} (exit code {finished.exit_code}).", facts


def eligible(context: Context) -> bool:
    """Whether a variant of the plan completed; a maker of weights is no winner."""
    return bool(candidates_of(context.sweep, context.rows()))
