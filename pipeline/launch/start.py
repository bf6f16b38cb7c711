"""Start a launch: check, register, run the loop, mirror to W&B, sum up."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import PcanError
from pipeline.job.resolve import Resolution, resolve_variants, true_lr
from pipeline.job.slots import Slot
from pipeline.launch.context import Context
from pipeline.launch.loop import Loop, Show
from pipeline.launch.machine import data_root
from pipeline.launch.policy import Order, candidates, check_order
from pipeline.launch.ready import check_ready
from pipeline.launch.stops import Stops
from pipeline.plan.against import check_against
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.study.register import Registered, recipe_of, register
from pipeline.study.storage import Storage


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


def resolved(sweep: Sweep, project: Project) -> Resolution:
    """Resolve every variant and check the plan against the result.

    Raises:
        SweepFileError, InputError, NotReady: as `resolve_variants` and `check_against`.
    """
    resolution = resolve_variants(sweep, project)
    check_against(sweep, {name: c.facts for name, c in resolution.configs.items()})
    return resolution


def register_all(sweep: Sweep, storage: Storage, resolution: Resolution) -> list[Registered]:
    """Register every variant with its resolved recipe."""
    recipes = {
        name: recipe_of(variant, resolution.configs[name].hash)
        for name, variant in sweep.variants.items()
    }
    return register(sweep, storage, recipes)


def describe(done: Sequence[Registered]) -> list[str]:
    """Return a line for each thing that registering changed."""
    new = [r.variant for r in done if r.created]
    lines = [f"Registered: {', '.join(new)}."] if new else []
    for r in done:
        if r.new_recipe:
            lines.append(f"{r.variant}: the recipe has changed; it gets a new trial.")
        if r.changed:
            lines.append(f"{r.variant}: {', '.join(r.changed)} changed; recorded with the date.")
    return lines


def launch(
    sweep: Sweep,
    project: Project,
    storage: Storage,
    *,
    order: Order,
    slots: Sequence[Slot],
    sets: Mapping[str, Any],
    tracking: Mapping[str, Any],
    show: Show,
    wait: bool = False,
    courses: bool = True,
) -> Finished:
    """Register if needed, then run until the plan is done.

    Args:
        order: which variants, how many trials.
        sets: `--set` by config path.
        tracking: mode, project and entity for W&B.
        wait: wait for GPUs that others hold.
        courses: also check logged lr against each variant's true schedule.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is half-written.
    """
    check_order(sweep, order)
    variants = candidates(sweep, order)
    root = data_root(sweep, project, sets)
    check_ready(sweep, project, variants)
    resolution = resolved(sweep, project)
    for line in describe(register_all(sweep, storage, resolution)):
        show.line(line)
    context = Context(
        sweep=sweep,
        project=project,
        storage=storage,
        order=order,
        slots=slots,
        sets=sets,
        data_root=root,
        resolution=resolution,
        courses=_courses(sweep, project, resolution, variants, show) if courses else {},
        tracking=tracking,
    )
    folder = project.runs / sweep.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stops = Stops(folder, sweep.job.stop_grace_s, show.line)
    loop = Loop(context, stops, show, wait)
    with stops.listening():
        plan = loop.run()
    return _finished(loop, context, plan.why, stops)


def _courses(
    sweep: Sweep, project: Project, resolution: Resolution, variants: Sequence[str], show: Show
) -> dict[str, list[float]]:
    """Return the true lr courses; without them a launch goes on, only unchecked in this."""
    wanted = {name: resolution.configs[name] for name in variants}
    try:
        return true_lr(sweep, project, wanted)
    except PcanError as error:
        show.line(f"The lr is not checked against the schedule: {error}")
        return {}


def _finished(loop: Loop, context: Context, why: str, stops: Stops) -> Finished:
    interrupted = any(outcome.state is None for outcome in loop.done)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (loop.failed or not _eligible(context)):
        code = 3
    return Finished(why=why, failed=tuple(loop.failed), interrupted=interrupted, exit_code=code)


def _eligible(context: Context) -> bool:
    """Whether a variant of the plan completed; a maker of weights is no winner."""
    makers = context.sweep.makers
    return any(row.state == "COMPLETE" and row.variant not in makers for row in context.rows())
