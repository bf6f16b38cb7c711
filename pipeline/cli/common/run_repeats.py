"""Run the repetitions of trials through the launch, for `pcan sweep best --confirm`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.cli.common.options import Opened
    from pipeline.study.db.storage import Storage


def repeat(
    opened: "Opened",
    store: "Storage",
    names: Sequence[str],
    *,
    slots: int | None,
    gpus: str | None,
    device: str | None,
    wait: bool,
    wandb_mode: str,
    sets: tuple[str, ...],
) -> int:
    """Launch the repetitions of these trials; return the launch's exit code."""
    from pipeline.cli.common.terminal import Terminal
    from pipeline.launch.launch import LaunchRequest, launch
    from pipeline.launch.orders import RunOrder
    from pipeline.launch.reporters import Reporters, WandbReporter
    from pipeline.launch.slot_pool import find_slots
    from pipeline.preflight.machine_overrides import parse_sets
    from pipeline.track.tracking import Tracking

    terminal = Terminal()
    tracking = Tracking.of(opened.project, opened.sweep.name, wandb_mode)
    folder = opened.project.runs / opened.sweep.name
    mirror = WandbReporter(folder, tracking.mirror, terminal)
    try:
        request = LaunchRequest(
            sweep=opened.sweep,
            project=opened.project,
            storage=store,
            order=RunOrder(confirms=tuple(names)),
            sets=parse_sets(sets),
            tracking=tracking.spec(),
            reporter=Reporters(terminal, mirror),
        )
        places = find_slots(opened.sweep, device, gpus, slots, terminal.line, wait)
        finished = launch(request, places, wait=wait)
    finally:
        terminal.close()
    if finished.interrupted:
        terminal.line("Interrupted; the same command goes on.")
    return finished.exit_code
