"""`pcan sweep brief`: how a sweep stands, on one page for programs."""

from typing import Any

import click

from pipeline.cli.common.options import (
    json_option,
    open_sweep,
    print_json,
    storage_option,
    sweep_argument,
)
from pipeline.cli.sweep_compare import collector
from pipeline.plan.verdict import percent


@click.command()
@sweep_argument
@storage_option
@json_option
def command(sweep: str | None, storage: str | None, as_json: bool) -> None:
    """Say how SWEEP stands, what is real, what to do next and what to avoid.

    With --json at most 2,048 bytes, for scripts and coding agents.

    \b
    Example:
      pcan sweep brief demo --json
    """
    from pipeline.report.status.brief_record import brief_record
    from pipeline.report.status.status_record import status_record
    from pipeline.study.db.storage import open_storage

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    status = status_record(opened.sweep, opened.project, store)
    record = brief_record(status, collector(opened, storage, resolve=False)()["differences"])
    if as_json:
        print_json(record)
        return
    for line in lines(record):
        click.echo(line)


def lines(record: dict[str, Any]) -> list[str]:
    """Return the brief as lines for people."""
    best = record["best"]
    head = f"{record['sweep']}: {record['state']}"
    if best is not None:
        head += f"; best {best['trial']} with {percent(best['top1'])} at epoch {best['epoch']}"
    shown = [head]
    for pair in record["real_differences"]:
        points = f"{pair['points']:.2f} points above"
        shown.append(f"  real: {pair['better']} {points} {pair['worse']} (p = {pair['p']:g})")
    shown += [f"  runs: {one['trial']}, epoch {one['epochs']}" for one in record["running"]]
    shown += [f"  next: {step['command']}   ({step['why']})" for step in record["next"]]
    return shown + [f"  avoid: {text}" for text in record["avoid"]]
