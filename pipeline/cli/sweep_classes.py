"""`pcan sweep classes`: a trial class by class, and against another one."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    echo_err,
    json_option,
    open_sweep,
    print_json,
    slot_options,
    storage_option,
)

if TYPE_CHECKING:
    from pipeline.cli.common.options import Opened
    from pipeline.report.stats.by_class import ReadTrial
    from pipeline.study.trial_rows import TrialRow


@click.command()
@click.argument("trial", metavar="VARIANT/N")
@click.option("--against", metavar="VARIANT/N", help="Show what moved against this trial.")
@click.option("--sweep", metavar="SWEEP", help="[default: the project's first plan]")
@click.option("--csv", "as_csv", is_flag=True, help="Print the classes as a table (fractions).")
@slot_options
@storage_option
@json_option
def command(
    trial: str,
    against: str | None,
    sweep: str | None,
    as_csv: bool,
    storage: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Show a trial's accuracy by class, its confusions, and what moved against another trial.

    Both are read at their best epochs, from what their validations kept; a trial that kept
    nothing has its clips read once, on --device.

    \b
    Example:
      pcan sweep classes pose-1.5/0 --against baseline/0 --sweep demo
    """
    from pipeline.report.stats.by_class import by_class, class_csv, class_lines

    if as_csv and as_json:
        raise click.UsageError("Use --csv or --json.")
    opened = open_sweep(sweep)
    own, *others = _read(opened, storage, [trial, *([against] if against else [])], given)
    record = by_class(own, others[0] if others else None)
    if as_json:
        print_json(record)
    elif as_csv:
        click.echo(class_csv(record), nl=False)
    else:
        click.echo("\n".join(class_lines(record)))


def _read(
    opened: "Opened", storage: str | None, names: list[str], given: dict[str, Any]
) -> "list[ReadTrial]":
    from pipeline.report.stats.by_class import read_classes, readable_row
    from pipeline.study.db.read_copy import open_to_read
    from pipeline.study.trial_rows import read_board

    store = open_to_read(storage, opened.project.runs, echo_err, create=False)
    rows = read_board(opened.sweep.name, store)
    found = []
    for name in names:
        row = readable_row(opened.sweep.name, rows, name, opened.project.runs)
        read = read_classes(opened.project, row)
        if isinstance(read, str):
            echo_err(
                f"{name} has no predictions of its best epoch ({read}): reading its clips once."
            )
            read = _read_once(opened, row, given)
        found.append(read)
    return found


def _read_once(opened: "Opened", row: "TrialRow", given: dict[str, Any]) -> "ReadTrial":
    """Read the clips of a trial whose validation kept nothing; what is read is kept."""
    from pipeline.cli.common.console import Bar
    from pipeline.cli.sweep_refine import held_slots
    from pipeline.refine.refinement import RefineRequest, read_plain
    from pipeline.report.stats.by_class import from_scores
    from pipeline.shared.rundir import RunDir

    bar = Bar("Reading clips", shares=True)
    with held_slots(opened, given, f"classes {row.name}") as slots, bar:
        request = RefineRequest(
            sweep=opened.sweep,
            project=opened.project,
            rows=[row],
            winner=row,
            count=1,
            slots=slots[:1],
            progress=bar.update,
        )
        scores = read_plain(request)
    return from_scores(row, RunDir(opened.project.root / (row.run_dir or "")), scores)
