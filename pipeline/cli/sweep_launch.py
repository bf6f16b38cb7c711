"""`pcan sweep launch`: run a sweep, or go on with it."""

import click

from pipeline.cli.options import (
    Amount,
    engine_options,
    night_options,
    open_sweep,
    place_options,
    set_option,
    storage_option,
    sweep_argument,
    wandb_option,
)


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
@engine_options
@place_options
@storage_option
@wandb_option()
@set_option
@night_options
@click.option("--gpu-hours", type=Amount(0), help="The same, by hours times GPUs.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and run nothing.")
@click.pass_context
def launch(
    ctx: click.Context,
    sweep: str | None,
    policy: str,
    variants: tuple[str, ...],
    trials: int,
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
    gpu_hours: float | None,
    dry_run: bool,
    in_job: bool,
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
    from pipeline.cli.show import Terminal
    from pipeline.cli.tracking import Tracking
    from pipeline.cli.typed import detached
    from pipeline.launch.budget import Budget
    from pipeline.launch.engine import inside
    from pipeline.launch.machine import parse_sets
    from pipeline.launch.notify import parse_command
    from pipeline.launch.policy import Order, candidates, check_order
    from pipeline.launch.ready import find_slots
    from pipeline.launch.start import launch as run
    from pipeline.study.storage import open_storage

    opened = open_sweep(sweep)
    order = Order(policy=policy, variants=variants, trials=trials)
    check_order(opened.sweep, order)
    facts = parse_sets(sets)
    terminal = Terminal()
    if on != "local":
        from pipeline.cli.on_slurm import launch_on_slurm

        study_storage = open_storage(storage, opened.project.runs)
        try:
            return launch_on_slurm(ctx, opened, order, facts, terminal, study_storage)
        finally:
            terminal.close()
            study_storage.close()
    places = find_slots(opened.sweep, device, gpus, slots, terminal.line, wait)
    tracking = Tracking.of(opened.project, opened.sweep.name, wandb_mode)
    if dry_run:
        for name in candidates(opened.sweep, order):
            click.echo(f"{opened.sweep.name}/{name}")
        where = ", ".join(place.shown for place in places)
        terminal.line(f"In this order, as far as the verdicts call for them, on: {where}.")
        return 0
    command = parse_command(notify) if notify is not None else None
    if detach:
        return detached(ctx, opened.project.runs / opened.sweep.name, opened.sweep.name)
    for line in tracking.hints():
        terminal.line(line)
    study_storage = open_storage(storage, opened.project.runs)
    try:
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
            budget=Budget(max_hours, gpu_hours),
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
