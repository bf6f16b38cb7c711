"""`pcan sweep classes`: a trial class by class, and against another one."""

from typing import TYPE_CHECKING

import click

from pipeline.cli.common.options import json_option, open_sweep, print_json, storage_option

if TYPE_CHECKING:
    from pipeline.cli.common.options import Opened
    from pipeline.report.stats.by_class import ReadTrial


@click.command()
@click.argument("trial", metavar="VARIANT/N")
@click.option("--against", metavar="VARIANT/N", help="Show what moved against this trial.")
@click.option("--sweep", metavar="SWEEP", help="[default: the project's first plan]")
@click.option("--csv", "as_csv", is_flag=True, help="Print the classes as a table (fractions).")
@storage_option
@json_option
def command(
    trial: str,
    against: str | None,
    sweep: str | None,
    as_csv: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Show a trial's accuracy by class, its confusions, and what moved against another trial.

    Both are read at their best epochs, from what their validations kept.

    \b
    Example:
      pcan sweep classes pose-1.5/0 --against baseline/0 --sweep demo
    """
    from pipeline.report.stats.by_class import by_class, class_csv, class_lines

    if as_csv and as_json:
        raise click.UsageError("Use --csv or --json.")
    opened = open_sweep(sweep)
    own, *others = _read(opened, storage, [trial, *([against] if against else [])])
    record = by_class(own, others[0] if others else None)
    if as_json:
        print_json(record)
    elif as_csv:
        click.echo(class_csv(record), nl=False)
    else:
        click.echo("\n".join(class_lines(record)))


def _read(opened: "Opened", storage: str | None, names: list[str]) -> "list[ReadTrial]":
    from pipeline.report.stats.read_trials import read_classes
    from pipeline.study.db.storage import open_storage
    from pipeline.study.trial_rows import read_board

    store = open_storage(storage, opened.project.runs, create=False)
    rows = read_board(opened.sweep.name, store)
    return [read_classes(opened.sweep.name, opened.project, rows, name) for name in names]
