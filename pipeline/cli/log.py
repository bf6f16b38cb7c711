"""`pcan log`: the monitoring of a training as one table."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.common.options import (
    csv_option,
    json_option,
    one_form,
    open_sweep,
    print_csv,
    print_json,
)
from pipeline.shared.files import shell_word

if TYPE_CHECKING:
    from pipeline.diagnose.epoch_table import Row
    from pipeline.diagnose.log_case import LogCase

#: Seconds between two readings of a growing log; one that takes long to read is read less often.
EVERY_S = 2.0
#: Searched if no folder is named: MMAction2's, then pcan's own.
DEFAULTS = (Path("work_dirs"), Path("runs"))


@click.command()
@click.argument("workdir", metavar="[WORKDIR]", required=False, type=click.Path(path_type=Path))
@click.option("--plan", metavar="SWEEP", help="Show the verdicts of a plan's gates.")
@click.option("--variant", metavar="NAME", help="The plan's variant; default: the first.")
@click.option("--metric", metavar="NAME", help="The metric to show; default: the log's top-1.")
@click.option("--follow", is_flag=True, help="Keep showing new epochs until Ctrl-C.")
@csv_option
@json_option
def command(
    workdir: Path | None,
    plan: str | None,
    variant: str | None,
    metric: str | None,
    follow: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show lr and validation top-1 by epoch from the newest log.

    WORKDIR is a work dir, a trial's run directory, a log file, or a folder of work dirs
    (default: work_dirs, then runs). Example:

        pcan log work_dirs/pcan_ntu60 --plan pcan_ntu60 --follow
    """
    one_form(as_json, as_csv)
    if follow and (as_json or as_csv):
        raise click.UsageError(f"Use --follow or --{'json' if as_json else 'csv'}, not both.")
    workdir = workdir or next((p for p in DEFAULTS if p.is_dir()), DEFAULTS[0])
    if follow:
        _follow(workdir, plan, variant, metric)
        return
    from pipeline.diagnose.epoch_table import record

    case, rows = _read(workdir, plan, variant, metric)
    if as_json:
        print_json(record(case, rows))
    elif as_csv:
        print_csv(record(case, rows)["epochs"], ("epoch", "lr", "top1"))
    else:
        click.echo(_text(case, rows))


def _read(
    workdir: Path, plan: str | None, variant: str | None, metric: str | None
) -> "tuple[LogCase, list[Row]]":
    from pipeline.diagnose.epoch_table import epoch_rows, judged, recorded
    from pipeline.diagnose.log_case import make_case
    from pipeline.diagnose.read_log import newest_work_dir, read_log
    from pipeline.errors import InputError

    if not workdir.exists():
        raise InputError(f"There is no {workdir}. Give the work dir: pcan log WORKDIR")
    folder = newest_work_dir(workdir)
    case = make_case(read_log(folder), metric)
    verdicts = recorded(folder) if folder.is_dir() else {}
    if plan is not None or variant is not None:
        from pipeline.diagnose.plan_context import choose_variant
        from pipeline.plan.judge import Rules

        sweep = open_sweep(plan).sweep
        clips = case.series.clips if case.series else None
        verdicts = judged(case, Rules.of(choose_variant(sweep, variant), clips=clips))
    return case, epoch_rows(case, verdicts)


def _text(case: "LogCase", rows: "list[Row]") -> str:
    from pipeline.diagnose.epoch_table import chart, text
    from pipeline.diagnose.runner import title
    from pipeline.diagnose.series import how_to_name

    notes = [f"({note})" for note in (*case.curve.notes, *case.notes)]
    names = case.curve.metric_names()
    if case.series is None and names:
        notes.append(
            f"(no top-1 in its validations, which have: {', '.join(names[:12])}. "
            f"{how_to_name(names, 'Name the metric to show')})"
        )
    shown = f"No epoch to show; what the log is: pcan diagnose {shell_word(case.curve.path)}"
    if rows:
        shown = text(rows)
    return "\n".join(part for part in (title(case), *notes, shown, chart(case)) if part)


def _follow(workdir: Path, plan: str | None, variant: str | None, metric: str | None) -> None:
    """Show the table again whenever the log has grown; without a terminal, only the new rows."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from pipeline.diagnose.epoch_table import text

    console = Console()
    shown = 0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            began = time.monotonic()
            case, rows = _read(workdir, plan, variant, metric)
            if console.is_terminal:
                # A long table is cut to its newest rows, so that the chart below stays visible.
                tail = rows[-max(5, console.height - 14) :]
                live.update(Text(_text(case, tail)), refresh=True)
            elif len(rows) > shown:
                click.echo("\n".join(text(rows).split("\n")[(shown + 1 if shown else 0) :]))
                shown = len(rows)
            time.sleep(max(EVERY_S, 5 * (time.monotonic() - began)))
