"""What `launch` and `search` do alike: here, in the background, or by the jobs of a cluster."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import Opened
from pipeline.cli.typed import detached

if TYPE_CHECKING:
    from pipeline.cli.tracking import Tracking
    from pipeline.launch.budget import Budget
    from pipeline.launch.policy import Order
    from pipeline.launch.start import Finished, Request
    from pipeline.study.storage import Storage


def carry_out(
    ctx: click.Context,
    opened: Opened,
    order: "Callable[[Storage], Order]",
    budget: "Budget",
) -> int:
    """Run what was asked for, by the options that both commands have; return the exit code.

    Args:
        order: says what is to be run; a search looks at what there is.
        budget: of a launch on this machine.
    """
    from pipeline.cli.on_slurm import launch_on_slurm
    from pipeline.cli.show import Terminal
    from pipeline.cli.tracking import Tracking
    from pipeline.launch.machine import parse_sets
    from pipeline.launch.notify import parse_command
    from pipeline.launch.start import Request
    from pipeline.study.storage import open_storage

    given = ctx.params
    sets = parse_sets(given["sets"])
    notify = parse_command(given["notify"]) if given["notify"] is not None else None
    tracking = Tracking.of(opened.project, opened.sweep.name, given["wandb_mode"])
    terminal = Terminal()
    storage = open_storage(given["storage"], opened.project.runs)
    try:
        request = Request(
            sweep=opened.sweep,
            project=opened.project,
            storage=storage,
            order=order(storage),
            sets=sets,
            tracking=tracking.spec(),
            show=terminal,
            notify=notify,
        )
        if given["on"] != "local":
            finished = launch_on_slurm(ctx, request, tracking)
        else:
            finished = _launch_here(ctx, request, tracking, budget)
    finally:
        terminal.close()
        storage.close()
    if finished is None:
        return 0
    if finished.why:
        terminal.line(f"{finished.why[0].upper()}{finished.why[1:]}.")
    return finished.exit_code


def _launch_here(
    ctx: click.Context, request: "Request", tracking: "Tracking", budget: "Budget"
) -> "Finished | None":
    """Launch on this machine; None where that was left to a process in the background."""
    from pipeline.launch.engine import inside
    from pipeline.launch.places import CLEAR_S
    from pipeline.launch.ready import find_slots
    from pipeline.launch.start import launch

    given, say, wait = ctx.params, request.show.line, ctx.params["wait"]
    # A scheduler hands GPUs on while the processes of the job before may still be ending there.
    patience_s = CLEAR_S if given["in_job"] else 0.0
    asked = (given["device"], given["gpus"], given["slots"])
    slots = find_slots(request.sweep, *asked, say, wait, patience_s)
    if given["detach"]:
        detached(ctx, request.make_folder(), request.sweep.name)
        return None
    for line in tracking.hints():
        say(line)
    job = inside() if given["in_job"] else None
    return launch(request, slots, wait=wait, budget=budget, mirror=tracking.mirror, inside=job)
