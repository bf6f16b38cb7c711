"""`pcan sweep launch` and `pcan sweep search`: run a plan, or search around one of its recipes."""

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
    from pipeline.launch.context import RunOrder
    from pipeline.study.db.storage import Storage


@click.command()
@sweep_argument
@click.option(
    "--policy",
    type=click.Choice(["ladder", "all"]),
    default="ladder",
    show_default=True,
    help="The baseline and then what the verdicts call for, or every variant.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="Run just this one; again if it failed.",
)
@click.option(
    "--trials",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Trials per study: 1 is the recipe, more search its space.",
)
@launch_options
@click.option("--gpu-hours", type=Amount(0), help="The same, by hours times GPUs.")
@click.option("--dry-run", is_flag=True, help="Print what would be run, and run nothing.")
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

    A second launch continues where the first stopped, and runs again what failed if its code, its
    weights or a version has changed since. Ctrl-C stops after the running epoch. When
    --max-hours or --gpu-hours are used up, running trials stop after their epoch (exit code 75).
    Gates, patience and ladder may be changed in the file meanwhile. With --on slurm each trial
    runs in a job of the cluster, and Ctrl-C leaves those running.

    \b
    Example:
      pcan sweep launch demo --device cpu
    """
    from pipeline.cli.common.run_launch import run_launch
    from pipeline.launch.budget import Budget
    from pipeline.launch.context import RunOrder
    from pipeline.launch.scheduler import check_order

    opened = open_sweep(sweep)
    order = RunOrder(policy=policy, variants=variants, trials=trials)
    check_order(opened.sweep, order)
    if dry_run and ctx.params["on"] == "local":
        return _show_plan(opened, order, ctx.params)
    return run_launch(ctx, opened, lambda _: order, Budget(max_hours, gpu_hours))


def _show_plan(opened: Opened, order: "RunOrder", given: dict[str, Any]) -> int:
    """Print what would be run, and where."""
    from pipeline.launch.reporters import LineReporter
    from pipeline.launch.scheduler import candidates
    from pipeline.launch.slot_pool import find_slots
    from pipeline.preflight.machine_overrides import parse_sets

    parse_sets(given["sets"])
    places = find_slots(
        opened.sweep,
        given["device"],
        given["gpus"],
        given["slots"],
        LineReporter(echo_err),
        given["wait"],
    )
    for name in candidates(opened.sweep, order):
        click.echo(f"{opened.sweep.name}/{name}")
    where = ", ".join(place.shown for place in places)
    echo_err(f"In this order, as far as the verdicts call for them, on: {where}.")
    return 0


@click.command()
@sweep_argument
@click.option("--trials", type=click.IntRange(1, 10_000), help="How many trials in all.")
@click.option("--gpu-hours", type=Amount(0, min_open=True), help="How much in all.")
@click.option("--variant", metavar="NAME", help="Search around this one. [default: the best]")
@launch_options
@click.pass_context
def search(
    ctx: click.Context,
    /,
    sweep: str | None,
    trials: int | None,
    gpu_hours: float | None,
    variant: str | None,
    max_hours: float | None,
    in_job: bool,
    **_: Any,
) -> int:
    """Search the `space` of SWEEP's best recipe with Optuna's TPE.

    What the plan has run counts from the start and is never run again. `search: {rule: ladder}`
    or `halving` in the sweep file says what stops a trial early. Kill it at any point: the same
    command continues, and what it spent before counts. What it may cost: pcan sweep plan
    --search.
    With --on slurm each trial runs in a job of the cluster.

    \b
    Example:
      pcan sweep search demo --trials 12 --device cpu
    """
    from pipeline.cli.common.run_launch import run_launch
    from pipeline.launch.budget import Budget

    if trials is not None and gpu_hours is not None and not in_job:
        raise click.UsageError("Use --trials or --gpu-hours, not both.")
    opened = open_sweep(sweep)

    def order(storage: "Storage") -> "RunOrder":
        return _order(opened, storage, variant, trials, gpu_hours)

    return run_launch(ctx, opened, order, Budget(max_hours))


def _order(
    opened: Opened,
    storage: "Storage",
    variant: str | None,
    trials: int | None,
    gpu_hours: float | None,
) -> "RunOrder":
    """Return the order of a search: around which variant, and how much."""
    from pipeline.launch.context import RunOrder
    from pipeline.launch.search_setup import choose_variant, make_order
    from pipeline.study.trial_rows import read_board

    rows = read_board(opened.sweep.name, storage)
    chosen = choose_variant(opened.sweep, rows, variant)
    return RunOrder(search=make_order(opened.sweep, chosen, trials, gpu_hours))
