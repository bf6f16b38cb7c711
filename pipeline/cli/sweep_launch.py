"""`pcan sweep launch`: run a sweep, or go on with it."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    Amount,
    Opened,
    echo_err,
    launch_options,
    open_sweep,
    sweep_argument,
)

if TYPE_CHECKING:
    from pipeline.launch.orders import RunOrder


@click.command()
@sweep_argument
@click.option(
    "--policy",
    type=click.Choice(["ladder", "all"]),
    default="ladder",
    show_default=True,
    help="The baseline and then what the verdicts say, or every variant.",
)
@click.option("--variant", "variants", multiple=True, metavar="NAME", help="Run just this one.")
@click.option(
    "--trials",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Trials per study: 1 is the recipe, more search its space.",
)
@launch_options
@click.option("--gpu-hours", type=Amount(0), help="The same, by hours times GPUs.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and run nothing.")
@click.pass_context
def launch(
    ctx: click.Context,
    /,
    sweep: str | None,
    policy: str,
    variants: tuple[str, ...],
    trials: int,
    max_hours: float | None,
    gpu_hours: float | None,
    dry_run: bool,
    **_: Any,
) -> int:
    """Register SWEEP if needed, then run it: the baseline, then what the verdicts call for.

    A second launch goes on where the first stopped. Ctrl-C stops after the running epoch. When
    --max-hours or --gpu-hours are used up, running trials stop after their epoch (exit code 75).
    Gates, patience and ladder may be changed in the file meanwhile. With --on slurm each trial
    runs in a job of the cluster, and Ctrl-C leaves those running.

    \b
    Example:
      pcan sweep launch demo --device cpu
    """
    from pipeline.cli.common.run_launch import run_launch
    from pipeline.launch.budget import Budget
    from pipeline.launch.orders import RunOrder
    from pipeline.launch.scheduler import check_order

    opened = open_sweep(sweep)
    order = RunOrder(policy=policy, variants=variants, trials=trials)
    check_order(opened.sweep, order)
    if dry_run and ctx.params["on"] == "local":
        return _foretell(opened, order, ctx.params)
    return run_launch(ctx, opened, lambda storage: order, Budget(max_hours, gpu_hours))


def _foretell(opened: Opened, order: "RunOrder", given: dict[str, Any]) -> int:
    """Say what would be run, and where."""
    from pipeline.launch.scheduler import candidates
    from pipeline.launch.slot_pool import find_slots
    from pipeline.preflight.machine_overrides import parse_sets

    parse_sets(given["sets"])
    places = find_slots(
        opened.sweep,
        given["device"],
        given["gpus"],
        given["slots"],
        echo_err,
        given["wait"],
    )
    for name in candidates(opened.sweep, order):
        click.echo(f"{opened.sweep.name}/{name}")
    where = ", ".join(place.shown for place in places)
    echo_err(f"In this order, as far as the verdicts call for them, on: {where}.")
    return 0
