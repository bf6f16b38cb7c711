"""`pcan sweep report`, `story` and `brief`: results for readers, and for programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    Amount,
    echo_err,
    json_option,
    lang_option,
    open_sweep,
    print_json,
    storage_option,
    sweep_argument,
)
from pipeline.cli.sweep_compare import collector
from pipeline.plan.verdict import percent

if TYPE_CHECKING:
    from pipeline.cli.common.options import Opened

price_option = click.option("--price", type=Amount(0), help="What a GPU hour costs.")


@click.command()
@sweep_argument
@click.option("--out", type=click.Path(path_type=Path), help="[default: reports/SWEEP]")
@price_option
@lang_option
@storage_option
@json_option
def report(
    sweep: str | None,
    out: Path | None,
    price: float | None,
    lang: str,
    storage: str | None,
    as_json: bool,
) -> None:
    """Write tables, figures and a methods paragraph on SWEEP into a folder.

    CSV, LaTeX (booktabs) and Markdown tables, curves and ladder as pictures for print, the
    winner's confusions, methods with references, an appendix with verdicts and the diary. The
    same run directories give the same files, byte for byte.

    \b
    Example:
      pcan sweep report demo --out paper
    """
    from pipeline.report.paper.figures import chinese_font, is_chinese
    from pipeline.report.paper.report_folder import FILES, write_report

    opened = open_sweep(sweep)
    folder = (out or opened.project.root / "reports" / opened.sweep.name).resolve()
    data = collector(opened, storage, resolve=False)()
    summary = write_report(data, _runs(opened), folder, opened.sweep, price, lang)
    if as_json:
        winner = summary.winner.name if summary.winner is not None else None
        files = list(FILES)
        print_json({"schema": 1, "sweep": summary.sweep, "winner": winner, "files": files})
        return
    click.echo(str(folder))
    if is_chinese(summary, lang) and chinese_font() is None:
        echo_err(
            "No Chinese font is installed, so labels of figures are English and Chinese names in "
            "them are boxes. Install one (Debian, Ubuntu: apt install fonts-noto-cjk) and repeat."
        )
    if summary.winner is None:
        echo_err("No trial is complete, so the report names no winner.")


@click.command()
@sweep_argument
@price_option
@storage_option
@json_option
def story(sweep: str | None, price: float | None, storage: str | None, as_json: bool) -> None:
    """Tell what was tried in SWEEP, when and by whom, what the rules said, what it cost.

    Markdown, from the run directories' records alone.

    \b
    Example:
      pcan sweep story demo --price 2.5
    """
    from pipeline.report.paper.story import measured_gpu_hours
    from pipeline.report.paper.story import story as diary
    from pipeline.report.paper.sweep_summary import summary_of
    from pipeline.results import open_sweep as open_results

    opened = open_sweep(sweep)
    data = collector(opened, storage, resolve=False)()
    results = open_results(_runs(opened))
    text = diary(results, summary_of(data, opened.sweep.makers), price)
    if not as_json:
        click.echo(text.rstrip())
        return
    hours = measured_gpu_hours(data["trials"])
    cost: dict[str, Any] = {"gpu_hours": hours, "price": price}
    print_json({"schema": 1, "sweep": opened.sweep.name, **cost, "text": text})


def _runs(opened: "Opened") -> Path:
    return opened.project.runs / opened.sweep.name


@click.command()
@sweep_argument
@storage_option
@json_option
def brief(sweep: str | None, storage: str | None, as_json: bool) -> None:
    """Say how SWEEP stands, what is real, what to do next and what to avoid.

    With --json at most 2,048 bytes, for scripts and coding agents.

    \b
    Example:
      pcan sweep brief demo --json
    """
    from pipeline.report.status.brief_record import brief_record
    from pipeline.report.status.status_record import status_record
    from pipeline.study.db.read_copy import open_to_read

    opened = open_sweep(sweep)
    store = open_to_read(storage, opened.project.runs, echo_err)
    status = status_record(opened.sweep, opened.project, store)
    data = collector(opened, storage, resolve=False)()
    record = brief_record(status, data["differences"], len(data["trials"]))
    if as_json:
        print_json(record)
        return
    for line in _brief_lines(record):
        click.echo(line)


def _brief_lines(record: dict[str, Any]) -> list[str]:
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
