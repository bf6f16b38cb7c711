"""`pcan train`: one variant as one job, without a study."""

import contextlib
from typing import TYPE_CHECKING

import click

from pipeline.cli.common.options import Opened, open_sweep, set_option

if TYPE_CHECKING:
    from pipeline.cli.common.terminal import Terminal
    from pipeline.launch.launch import LaunchRequest


@click.command()
@click.argument("sweep")
@click.option("--variant", required=True, metavar="NAME", help="The recipe to train.")
@click.option("--gpus", metavar="LIST", help="GPUs to use, such as 0,1.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: GPUs if any]")
@click.option(
    "--wandb",
    "wandb_mode",
    type=click.Choice(["offline", "live", "disabled"]),
    help="How the run is sent to W&B. [default: offline; live under `wandb agent`]",
)
@click.option("--wait", is_flag=True, help="Wait for GPUs that others use.")
@set_option
def train(
    sweep: str,
    variant: str,
    gpus: str | None,
    device: str | None,
    wandb_mode: str | None,
    wait: bool,
    sets: tuple[str, ...],
) -> int:
    """Train one variant of SWEEP, judged by the same gates, in a run directory of its own.

    Under `wandb agent` it writes to the run that the agent opened.

    \b
    Example:
      pcan train demo --variant baseline --device cpu
    """
    from pipeline.cli.common.terminal import Terminal
    from pipeline.launch.slot_pool import find_slots
    from pipeline.launch.standalone import train_one

    opened, terminal = open_sweep(sweep), Terminal()
    slots = find_slots(opened.sweep, device, gpus, 1, terminal, wait)
    try:
        request = _request(opened, variant, sets, wandb_mode, terminal)
        with contextlib.closing(request.reporter):
            run_dir, code = train_one(request, slots[0], wait=wait)
    finally:
        terminal.close()
    click.echo(run_dir)
    return code


def _request(
    opened: Opened,
    variant: str,
    sets: tuple[str, ...],
    wandb_mode: str | None,
    terminal: "Terminal",
) -> "LaunchRequest":
    """Return the launch of one variant without a storage, reported to the terminal and W&B."""
    from pipeline.cli.common.run_launch import launch_reporters
    from pipeline.launch.context import RunOrder
    from pipeline.launch.launch import LaunchRequest
    from pipeline.preflight.machine_overrides import parse_sets
    from pipeline.track.tracking import Tracking, agent_run

    agent, name = agent_run(), opened.sweep.name
    mode = wandb_mode or ("live" if agent else "offline")
    tracking = Tracking.of(opened.project, name, mode)
    return LaunchRequest(
        sweep=opened.sweep,
        project=opened.project,
        storage=None,
        order=RunOrder(variants=(variant,)),
        sets=parse_sets(sets),
        tracking={**tracking.spec(), **(agent.spec(name) if agent else {})},
        reporter=launch_reporters(opened, terminal, tracking),
    )
