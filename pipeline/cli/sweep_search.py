"""`pcan sweep search`: search around the plan's recipes, stopping what is not worth its hours."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import Amount, Opened, launch_options, open_sweep, sweep_argument

if TYPE_CHECKING:
    from pipeline.launch.orders import RunOrder
    from pipeline.study.db.storage import Storage


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

    What the plan has run is known from the start and never run again. `search: {rule: halving}` or
    `ladder` in the sweep file says what stops a trial early. Kill it at any point: the same
    command goes on, and what it spent before counts. What it may cost: pcan sweep plan --search.
    With --on slurm each trial runs in a job of the cluster.

    \b
    Example:
      pcan sweep search demo --trials 12 --device cpu
    """
    from pipeline.cli.common.run_launch import run_launch
    from pipeline.launch.budget import Budget

    if trials is not None and gpu_hours is not None and not in_job:
        raise click.UsageError("Say --trials or --gpu-hours, not both.")
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
    """Return what is to be searched: around which variant, and how much."""
    from pipeline.launch.orders import RunOrder
    from pipeline.launch.search_setup import choose_variant, make_order
    from pipeline.study.trial_rows import read_board

    rows = read_board(opened.sweep.name, storage)
    chosen = choose_variant(opened.sweep, rows, variant)
    return RunOrder(search=make_order(opened.sweep, chosen, trials, gpu_hours))
