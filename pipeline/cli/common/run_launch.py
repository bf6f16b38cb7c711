"""What `launch` and `search` do alike: here, in the background, or by the jobs of a cluster."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pipeline.cli.common.argv import detached
from pipeline.cli.common.options import Opened

if TYPE_CHECKING:
    from pipeline.launch.budget import Budget
    from pipeline.launch.launch import LaunchRequest
    from pipeline.launch.orders import RunOrder
    from pipeline.launch.reporters import LaunchResult
    from pipeline.study.db.storage import Storage
    from pipeline.track.tracking import Tracking


def run_launch(
    ctx: click.Context,
    opened: Opened,
    order: "Callable[[Storage], RunOrder]",
    budget: "Budget",
) -> int:
    """Run what was asked for, by the options that both commands have; return the exit code.

    Args:
        order: says what is to be run; a search looks at what there is.
        budget: of a launch on this machine.
    """
    from pipeline.cli.common.on_slurm import launch_on_slurm
    from pipeline.cli.common.terminal import Terminal
    from pipeline.launch.launch import LaunchRequest
    from pipeline.launch.reporters import CommandReporter, Reporters, WandbReporter, parse_command
    from pipeline.preflight.machine_overrides import parse_sets
    from pipeline.study.db.storage import open_storage
    from pipeline.track.tracking import Tracking

    given = ctx.params
    sets = parse_sets(given["sets"])
    notify = parse_command(given["notify"]) if given["notify"] is not None else None
    tracking = Tracking.of(opened.project, opened.sweep.name, given["wandb_mode"])
    terminal = Terminal()
    reporter = Reporters(terminal)
    if given["on"] == "local":
        folder = opened.project.runs / opened.sweep.name
        reporter.add(WandbReporter(folder, tracking.mirror, terminal))
    if notify is not None:
        end = not given["in_job"]
        reporter.add(CommandReporter(notify, opened.sweep.name, terminal, end))
    storage = open_storage(given["storage"], opened.project.runs)
    try:
        request = LaunchRequest(
            sweep=opened.sweep,
            project=opened.project,
            storage=storage,
            order=order(storage),
            sets=sets,
            tracking=tracking.spec(),
            reporter=reporter,
        )
        if given["on"] != "local":
            finished = launch_on_slurm(ctx, request, tracking)
        else:
            finished = _launch_here(ctx, request, tracking, budget)
    finally:
        reporter.close()
        storage.close()
    if finished is None:
        return 0
    if finished.why:
        terminal.line(f"{finished.why[0].upper()}{finished.why[1:]}.")
    return finished.exit_code


def _launch_here(
    ctx: click.Context, request: "LaunchRequest", tracking: "Tracking", budget: "Budget"
) -> "LaunchResult | None":
    """Launch on this machine; None where that was left to a process in the background."""
    from pipeline.cluster.executor import JobEnvironment
    from pipeline.launch.launch import launch
    from pipeline.launch.slot_pool import GPU_DRAIN_S, find_slots

    given, say, wait = ctx.params, request.reporter.on_message, ctx.params["wait"]
    # A scheduler hands GPUs on while the processes of the job before may still be ending there.
    patience_s = GPU_DRAIN_S if given["in_job"] else 0.0
    asked = (given["device"], given["gpus"], given["slots"])
    slots = find_slots(request.sweep, *asked, say, wait, patience_s)
    if given["detach"]:
        detached(ctx, request.make_folder(), request.sweep.name)
        return None
    for line in tracking.hints():
        say(line)
    job = JobEnvironment.detect(request.sweep) if given["in_job"] else None
    return launch(request, slots, wait=wait, budget=budget, enclosing=job)
