"""`pcan sweep launch --on slurm`, and `search`: the same sweep by jobs of a cluster."""

import functools
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Opened
from pipeline.cli.typed import detached, typed
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.cli.show import Terminal
    from pipeline.launch.policy import Order
    from pipeline.study.storage import Storage


def launch_on_slurm(
    ctx: click.Context,
    opened: Opened,
    order: "Order",
    sets: dict[str, Any],
    terminal: "Terminal",
    storage: "Storage",
) -> int:
    """Launch with jobs of the cluster; what was typed is what each job's own launch gets."""
    from pipeline.cli.tracking import Tracking
    from pipeline.launch.notify import parse_command
    from pipeline.launch.policy import candidates
    from pipeline.launch.slurm import Slurm
    from pipeline.launch.start_on import launch_on

    given = ctx.params
    _refuse_local_options(given, searching=order.search is not None)
    sweep, project = opened.sweep, opened.project
    engine = Slurm(sweep, project, given["device"], storage)
    if given.get("dry_run"):
        engine.check()
        for name in candidates(sweep, order):
            click.echo(f"{sweep.name}/{name}")
        terminal.line(
            f"As jobs of SLURM, each by this script:\n{engine.script(_job_words(ctx, order))}"
        )
        return 0
    command = parse_command(given["notify"]) if given["notify"] is not None else None
    if given["detach"]:
        engine.check()
        return detached(ctx, project.runs / sweep.name, sweep.name, _verb(order))
    tracking = Tracking.of(project, sweep.name, given["wandb_mode"])
    for line in tracking.hints():
        terminal.line(line)
    finished = launch_on(
        engine,
        sweep,
        project,
        storage,
        order=order,
        words=functools.partial(_job_words, ctx),
        env={"PCAN_STORAGE": given["storage"]} if given["storage"] else {},
        most=given["slots"],
        sets=sets,
        tracking=tracking.spec(),
        show=terminal,
        notify=command,
    )
    if finished.why:
        terminal.line(f"{finished.why[0].upper()}{finished.why[1:]}.")
    return finished.exit_code


def _refuse_local_options(given: Mapping[str, Any], searching: bool) -> None:
    """Refuse options that speak of this machine's GPUs or of one launch's time.

    The GPU hours of a search count over all its commands, so each job knows them.
    """
    for name in ("gpus", "wait", "max_hours", "gpu_hours"):
        if given[name] and not (searching and name == "gpu_hours"):
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} is for a launch on this machine. With --on slurm the cluster places "
                "jobs and bounds their time: slurm: {time: ...} in the sweep file."
            )


def _job_words(ctx: click.Context, order: "Order") -> list[str]:
    """Return the command of a job: an ordinary launch of one slot on the GPUs it is given.

    Of a search each job is told what was settled once, so that all count alike.
    """
    leave = ["detach", "dry_run", "on", "slots", "storage"]
    settled = []
    if order.search is not None:
        leave += ["variant", "trials"]
        settled = [f"--variant={order.search.variant}", f"--trials={order.search.trials}"]
    words = [*typed(ctx, leave=leave), *settled]
    device = [] if ctx.params["device"] else ["--device=cuda"]
    python = [sys.executable, "-m", "pipeline.cli.main"]
    return [*python, "sweep", _verb(order), *words, *device, "--slots=1", "--in-job"]


def _verb(order: "Order") -> str:
    return "launch" if order.search is None else "search"
