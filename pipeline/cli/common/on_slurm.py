"""`pcan sweep launch --on slurm`, and `search`: the same sweep by jobs of a cluster."""

import functools
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.argv import detached, given_argv
from pipeline.env import STORAGE
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.launch.launch import LaunchRequest
    from pipeline.launch.orders import RunOrder
    from pipeline.launch.reporters import LaunchResult
    from pipeline.track.tracking import Tracking


def launch_on_slurm(
    ctx: click.Context, request: "LaunchRequest", tracking: "Tracking"
) -> "LaunchResult | None":
    """Launch with jobs of the cluster; what was typed is what each job's own launch gets.

    Returns:
        None where nothing was run: `--dry-run`, or left to a process in the background.
    """
    from pipeline.cluster.cluster_launch import launch_on
    from pipeline.cluster.executor import executor_class
    from pipeline.launch.scheduler import candidates

    given, sweep, say = ctx.params, request.sweep, request.reporter.on_message
    _refuse_local_options(given, searching=request.order.search is not None)
    chosen = executor_class(given["on"])
    executor = chosen(sweep, request.project, given["device"], request.storage)
    if given.get("dry_run"):
        executor.check()
        for name in candidates(sweep, request.order):
            click.echo(f"{sweep.name}/{name}")
        script = executor.describe(_job_words(ctx, request.order))
        say(f"As jobs of {executor.title}, each by this script:\n{script}")
        return None
    if given["detach"]:
        executor.check()
        detached(ctx, request.make_folder(), sweep.name)
        return None
    for line in tracking.hints():
        say(line)
    return launch_on(
        executor,
        request,
        argv=functools.partial(_job_words, ctx),
        env={STORAGE: given["storage"]} if given["storage"] else {},
        max_workers=given["slots"],
    )


def _refuse_local_options(given: Mapping[str, Any], searching: bool) -> None:
    """Refuse options that speak of this machine's GPUs or of one launch's time.

    The GPU hours of a search count over all its commands, so each job knows them.
    """
    engine = given["on"]
    for name in ("gpus", "wait", "max_hours", "gpu_hours"):
        if given[name] and not (searching and name == "gpu_hours"):
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} is for a launch on this machine. With --on {engine} the cluster places "
                f"jobs and bounds their time: {engine}: {{time: ...}} in the sweep file."
            )


def _job_words(ctx: click.Context, order: "RunOrder") -> list[str]:
    """Return the command of a job: an ordinary launch of one slot on the GPUs it is given.

    Of a search each job is told what was settled once, so that all count alike.
    """
    leave = ["detach", "dry_run", "on", "slots", "storage"]
    settled = []
    if order.search is not None:
        leave += ["variant", "trials"]
        settled = [f"--variant={order.search.variant}", f"--trials={order.search.trials}"]
    words = [*given_argv(ctx, leave=leave), *settled]
    device = [] if ctx.params["device"] else ["--device=cuda"]
    python = [sys.executable, "-m", "pipeline.cli.main"]
    return [*python, "sweep", str(ctx.info_name), *words, *device, "--slots=1", "--in-job"]
