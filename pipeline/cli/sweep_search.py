"""`pcan sweep search`: search around the plan's recipes, stopping what is not worth its hours."""

from typing import TYPE_CHECKING

import click

from pipeline.cli.options import (
    Amount,
    Opened,
    engine_options,
    night_options,
    open_sweep,
    place_options,
    set_option,
    storage_option,
    sweep_argument,
    wandb_option,
)

if TYPE_CHECKING:
    from pipeline.launch.policy import Order
    from pipeline.study.storage import Storage


@click.command()
@sweep_argument
@click.option("--trials", type=click.IntRange(1, 10_000), help="How many trials in all.")
@click.option("--gpu-hours", type=Amount(0, min_open=True), help="How much in all.")
@click.option("--variant", metavar="NAME", help="Search around this one. [default: the best]")
@engine_options
@place_options
@storage_option
@wandb_option()
@set_option
@night_options
@click.pass_context
def search(
    ctx: click.Context,
    sweep: str | None,
    trials: int | None,
    gpu_hours: float | None,
    variant: str | None,
    on: str,
    slots: int | None,
    gpus: str | None,
    device: str | None,
    wait: bool,
    storage: str | None,
    wandb_mode: str,
    sets: tuple[str, ...],
    detach: bool,
    notify: str | None,
    max_hours: float | None,
    in_job: bool,
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
    from pipeline.cli.show import Terminal
    from pipeline.cli.tracking import Tracking
    from pipeline.cli.typed import detached
    from pipeline.launch.budget import Budget
    from pipeline.launch.engine import inside
    from pipeline.launch.machine import parse_sets
    from pipeline.launch.notify import parse_command
    from pipeline.launch.ready import find_slots
    from pipeline.launch.start import launch as run
    from pipeline.study.storage import open_storage

    if trials is not None and gpu_hours is not None and not in_job:
        raise click.UsageError("Say --trials or --gpu-hours, not both.")
    opened = open_sweep(sweep)
    facts = parse_sets(sets)
    terminal = Terminal()
    study_storage = open_storage(storage, opened.project.runs)
    try:
        order = _order(opened, study_storage, variant, trials, gpu_hours)
        if on != "local":
            from pipeline.cli.on_slurm import launch_on_slurm

            return launch_on_slurm(ctx, opened, order, facts, terminal, study_storage)
        places = find_slots(opened.sweep, device, gpus, slots, terminal.line, wait)
        tracking = Tracking.of(opened.project, opened.sweep.name, wandb_mode)
        command = parse_command(notify) if notify is not None else None
        if detach:
            folder = opened.project.runs / opened.sweep.name
            return detached(ctx, folder, opened.sweep.name, "search")
        for line in tracking.hints():
            terminal.line(line)
        finished = run(
            opened.sweep,
            opened.project,
            study_storage,
            order=order,
            slots=places,
            sets=facts,
            tracking=tracking.spec(),
            show=terminal,
            wait=wait,
            budget=Budget(max_hours),
            notify=command,
            mirror=tracking.mirror,
            inside=inside() if in_job else None,
        )
    finally:
        terminal.close()
        study_storage.close()
    if finished.why:
        terminal.line(f"{finished.why[0].upper()}{finished.why[1:]}.")
    return finished.exit_code


def _order(
    opened: Opened,
    storage: "Storage",
    variant: str | None,
    trials: int | None,
    gpu_hours: float | None,
) -> "Order":
    """Return what is to be searched: around which variant, and how much."""
    from pipeline.launch.policy import Order
    from pipeline.launch.search_start import choose_variant, make_order
    from pipeline.study.board import read_board

    rows = read_board(opened.sweep.name, storage)
    chosen = choose_variant(opened.sweep, rows, variant)
    return Order(search=make_order(opened.sweep, chosen, trials, gpu_hours))
