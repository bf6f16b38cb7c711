"""`pcan sweep watch`: the running trials, live."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from pipeline.cli.common.options import (
    echo_err,
    json_option,
    open_sweep,
    print_json,
    storage_option,
    sweep_argument,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.report.status.live import TrialSnapshot

POLL_S = 1.0
#: Between two trials of a ladder no job runs for a moment.
IDLE_S = 15.0
#: Columns that the table needs.
TABLE_WIDTH = 110


@click.command()
@sweep_argument
@click.option("--once", is_flag=True, help="Show the state now, and end.")
@storage_option
@json_option
def command(sweep: str | None, once: bool, storage: str | None, as_json: bool) -> None:
    """Show the running trials of SWEEP: epoch, top-1, the next gate, time left.

    On a terminal a table that follows the jobs, elsewhere a line at each change. It ends when
    no job runs; leaving it with Ctrl-C stops no trial. --json prints the state once.

    \b
    Example:
      pcan sweep watch demo
    """
    from rich.console import Console

    from pipeline.launch.launch_process import launch_is_alive
    from pipeline.report.status.live import snapshot
    from pipeline.study.db.storage import open_storage

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    name = opened.sweep.name
    folder = opened.project.runs / name

    def read() -> "list[TrialSnapshot]":
        return snapshot(opened.sweep, opened.project, store)

    console = Console(highlight=False, soft_wrap=True)
    if as_json:
        print_json({"schema": 1, "sweep": name, "trials": [seen.record() for seen in read()]})
        return
    seen = read()
    active = any(one.running for one in seen) or launch_is_alive(folder)
    if active and not once:
        try:
            _follow(console, read, lambda: launch_is_alive(folder))
        except KeyboardInterrupt:
            echo_err(f"No longer watching; {name} keeps running. Stop it: pcan sweep stop {name}")
        return
    if any(one.running for one in seen):
        console.print(watch_table(seen))
    else:
        echo_err(f"Nothing of {name} is running. What has run: pcan sweep status {name}")


def _follow(
    console: "Console", read: "Callable[[], list[TrialSnapshot]]", alive: Callable[[], bool]
) -> None:
    """Print changes until no trial has run for a while and no launch is alive to start one."""
    from rich.live import Live
    from rich.text import Text

    from pipeline.report.status.live import changes
    from pipeline.shared.states import Phase

    live = Live(console=console, auto_refresh=False, transient=True)
    if console.is_terminal:
        live.start()
    seen: list[TrialSnapshot] = []
    idle_since = time.monotonic()
    try:
        while time.monotonic() - idle_since < IDLE_S:
            now = read()
            for text in changes(seen, now):
                console.print(Text(text))
            seen = now
            if any(one.running for one in now) or alive():
                idle_since = time.monotonic()
            elif not any(one.phase in (Phase.RUNNING, Phase.WAITING) for one in now):
                return
            if console.is_terminal:
                live.update(watch_view(now, console.width), refresh=True)
            time.sleep(POLL_S)
    finally:
        live.stop()


def watch_view(seen: "Sequence[TrialSnapshot]", width: int) -> "Table | Text":
    """Return the running trials as a table, or as lines where it would not fit."""
    from rich.text import Text

    from pipeline.report.status.layout import wrapped
    from pipeline.report.status.live import progress_line

    if width >= TABLE_WIDTH:
        return watch_table(seen)
    lines = (wrapped(progress_line(one), width) for one in seen if one.running)
    return Text("\n".join(part for line in lines for part in line))


def watch_table(seen: "Sequence[TrialSnapshot]") -> "Table":
    """Return the running trials, one a row."""
    from rich.table import Table

    from pipeline.plan.verdict import percent, shown_reading
    from pipeline.report.progress import shown_time

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", "epoch", "phase", "iterations", "last top-1", "best"):
        table.add_column(name, no_wrap=True)
    for name in ("lr", "left", "next gate (distance in points)"):
        table.add_column(name)
    for one in seen:
        if not one.running:
            continue
        table.add_row(
            one.trial,
            f"{one.epoch}/{one.epochs}" if one.epochs else str(one.epoch),
            one.phase,
            f"{one.iteration or 0}/{one.iterations}" if one.iterations else "",
            "" if one.last_top1 is None else shown_reading(one.last_top1, one.std_error),
            "" if one.best_top1 is None else percent(one.best_top1),
            "" if one.lr is None else f"{one.lr:.3g}",
            "" if one.seconds_left is None else shown_time(one.seconds_left),
            one.next_gate,
        )
    return table
