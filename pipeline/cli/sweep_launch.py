"""`pcan sweep launch`: run a sweep, or go on with it."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    Amount,
    Opened,
    open_sweep,
    say_to_stderr,
    set_option,
    storage_option,
    sweep_argument,
)
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.cli.show import Terminal
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
@click.option(
    "--on",
    type=click.Choice(["local", "slurm"]),
    default="local",
    show_default=True,
    help="Run here, or as jobs of a cluster (slurm: in the sweep file).",
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
@click.option("--max-hours", type=Amount(0), help="Start nothing more after this.")
@click.option("--gpu-hours", type=Amount(0), help="The same, by hours times GPUs.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and run nothing.")
@click.option("--in-job", is_flag=True, hidden=True)
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
        return _on_slurm(ctx, opened, order, facts, terminal)
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


def _on_slurm(
    ctx: click.Context, opened: Opened, order: "Order", sets: dict[str, Any], terminal: "Terminal"
) -> int:
    """Launch with jobs of the cluster; what was typed is what each job's own launch gets."""
    from pipeline.cli.tracking import Tracking
    from pipeline.launch.notify import parse_command
    from pipeline.launch.policy import candidates
    from pipeline.launch.slurm import Slurm
    from pipeline.launch.start_on import launch_on
    from pipeline.study.storage import open_storage

    given = ctx.params
    _refuse_local_options(given)
    sweep, project = opened.sweep, opened.project
    storage = open_storage(given["storage"], project.runs)
    engine = Slurm(sweep, project, given["device"], storage)
    if given["dry_run"]:
        engine.check()
        for name in candidates(sweep, order):
            click.echo(f"{sweep.name}/{name}")
        terminal.line(f"As jobs of SLURM, each by this script:\n{engine.script(_job_words(ctx))}")
        return 0
    command = parse_command(given["notify"]) if given["notify"] is not None else None
    if given["detach"]:
        engine.check()
        return detached(ctx, project.runs / sweep.name, sweep.name)
    tracking = Tracking.of(project, sweep.name, given["wandb_mode"])
    for line in tracking.hints():
        terminal.line(line)
    try:
        finished = launch_on(
            engine,
            sweep,
            project,
            storage,
            order=order,
            words=_job_words(ctx),
            env={"PCAN_STORAGE": given["storage"]} if given["storage"] else {},
            most=given["slots"],
            sets=sets,
            tracking=tracking.spec(),
            show=terminal,
            notify=command,
        )
    finally:
        terminal.close()
        storage.close()
    if finished.why:
        terminal.line(f"{finished.why[0].upper()}{finished.why[1:]}.")
    return finished.exit_code


def _refuse_local_options(given: Mapping[str, Any]) -> None:
    """Refuse options that speak of this machine's GPUs or of one launch's time."""
    for name in ("gpus", "wait", "max_hours", "gpu_hours"):
        if given[name]:
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} is for a launch on this machine. With --on slurm the cluster places "
                "jobs and bounds their time: slurm: {time: ...} in the sweep file."
            )


def _job_words(ctx: click.Context) -> list[str]:
    """Return the command of a job: an ordinary launch of one slot on the GPUs it is given."""
    words = _words(ctx, leave=("detach", "dry_run", "on", "slots", "storage"))
    device = [] if ctx.params["device"] else ["--device=cuda"]
    python = [sys.executable, "-m", "pipeline.cli.main"]
    return [*python, "sweep", "launch", *words, *device, "--slots=1", "--in-job"]


def detached(ctx: click.Context, folder: Path, sweep: str, verb: str = "launch") -> int:
    """Start the same command in the background; say how to watch and to stop it."""
    from pipeline.launch.detach import detach

    pid, log = detach(folder, ["sweep", verb, *_words(ctx)], Path.cwd())
    say_to_stderr(f"Launched in the background: pid {pid}, log {log}.")
    say_to_stderr(f"Watch it: pcan sweep watch {sweep}   Stop it: pcan sweep stop {sweep}")
    return 0


def _words(ctx: click.Context, leave: Collection[str] = ("detach",)) -> list[str]:
    """Return what was typed, without some options; values from the environment stay there."""
    words: list[str] = []
    for param in ctx.command.params:
        name = str(param.name)
        value = ctx.params.get(name)
        typed = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not typed or name in leave:
            continue
        if isinstance(param, click.Argument):
            words.append(str(value))
        elif value is True:
            words.append(param.opts[0])
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{param.opts[0]}={one}" for one in values]
    return words
