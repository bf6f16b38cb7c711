"""`pcan sweep launch`: run a sweep, or go on with it."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    Amount,
    Opened,
    launch_options,
    open_sweep,
    say_to_stderr,
    sweep_argument,
)

if TYPE_CHECKING:
    from pipeline.launch.policy import Order


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
    from pipeline.cli.launching import carry_out
    from pipeline.launch.budget import Budget
    from pipeline.launch.policy import Order, check_order

    opened = open_sweep(sweep)
    order = Order(policy=policy, variants=variants, trials=trials)
    check_order(opened.sweep, order)
    if dry_run and ctx.params["on"] == "local":
        return _foretell(opened, order, ctx.params)
    return carry_out(ctx, opened, lambda storage: order, Budget(max_hours, gpu_hours))


def _foretell(opened: Opened, order: "Order", given: dict[str, Any]) -> int:
    """Say what would be run, and where."""
    from pipeline.launch.machine import parse_sets
    from pipeline.launch.policy import candidates
    from pipeline.launch.ready import find_slots

    parse_sets(given["sets"])
    places = find_slots(
        opened.sweep,
        given["device"],
        given["gpus"],
        given["slots"],
        say_to_stderr,
        given["wait"],
    )
    for name in candidates(opened.sweep, order):
        click.echo(f"{opened.sweep.name}/{name}")
    where = ", ".join(place.shown for place in places)
    say_to_stderr(f"In this order, as far as the verdicts call for them, on: {where}.")
    return 0
