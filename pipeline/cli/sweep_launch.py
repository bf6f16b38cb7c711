"""`pcan sweep launch`: run a sweep, or go on with it."""

from pathlib import Path

import click

from pipeline.cli.options import (
    open_sweep,
    say_to_stderr,
    set_option,
    storage_option,
    sweep_argument,
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
@click.option("--slots", type=click.IntRange(1, 64), help="Trials at once. [default: all GPUs]")
@click.option("--gpus", metavar="LIST", help="GPUs to use, such as 0,1,2,3.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: GPUs if any]")
@click.option("--wait", is_flag=True, help="Wait for GPUs that others use.")
@storage_option
@click.option(
    "--wandb",
    "wandb_mode",
    type=click.Choice(["offline", "live", "disabled"]),
    default="offline",
    show_default=True,
    help="How W&B is told.",
)
@set_option
@click.option("--detach", is_flag=True, help="Go on after logout, with a log in runs/SWEEP.")
@click.option(
    "--notify", metavar="CMD", help="Run CMD on verdicts, failures and the end; text on stdin."
)
@click.option("--max-hours", type=click.FloatRange(0), help="Start nothing more after this.")
@click.option("--gpu-hours", type=click.FloatRange(0), help="The same, by hours times GPUs.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and run nothing.")
@click.pass_context
def launch(
    ctx: click.Context,
    sweep: str | None,
    policy: str,
    variants: tuple[str, ...],
    trials: int,
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
) -> int:
    """Register SWEEP if needed, then run it: the baseline, then what the verdicts call for.

    A second launch goes on where the first stopped. Ctrl-C stops after the running epoch. When
    --max-hours or --gpu-hours are used up, running trials stop after their epoch (exit code 75).
    Gates, patience and ladder may be changed in the file meanwhile.

    \b
    Example:
      pcan sweep launch demo --device cpu
    """
    from pipeline.cli.show import Terminal
    from pipeline.cli.tracking import Tracking
    from pipeline.launch.budget import Budget
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
        return _detached(ctx, opened.project.runs / opened.sweep.name, opened.sweep.name)
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
        )
    finally:
        terminal.close()
        study_storage.close()
    if finished.why:
        terminal.line(f"{finished.why[0].upper()}{finished.why[1:]}.")
    return finished.exit_code


def _detached(ctx: click.Context, folder: Path, sweep: str) -> int:
    """Start the same launch in the background; say how to watch and to stop it."""
    from pipeline.launch.detach import detach

    pid, log = detach(folder, ["sweep", "launch", *_words(ctx)], Path.cwd())
    say_to_stderr(f"Launched in the background: pid {pid}, log {log}.")
    say_to_stderr(f"Watch it: pcan sweep watch {sweep}   Stop it: pcan sweep stop {sweep}")
    return 0


def _words(ctx: click.Context) -> list[str]:
    """Return what was typed, without --detach; values from the environment stay there."""
    words: list[str] = []
    for param in ctx.command.params:
        name = str(param.name)
        value = ctx.params.get(name)
        typed = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not typed or name == "detach":
            continue
        if isinstance(param, click.Argument):
            words.append(str(value))
        elif value is True:
            words.append(param.opts[0])
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{param.opts[0]}={one}" for one in values]
    return words
