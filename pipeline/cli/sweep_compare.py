"""`pcan sweep compare`: all trials of a sweep in one HTML file, or live on this machine."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    csv_option,
    json_option,
    lang_option,
    one_form,
    open_sweep,
    print_csv,
    storage_option,
    sweep_argument,
)
from pipeline.shared.counted import counted
from pipeline.shared.files import shell_word

if TYPE_CHECKING:
    from pipeline.cli.common.options import Opened
    from pipeline.study.trial_rows import TrialRow


@click.command()
@sweep_argument
@click.option("--out", type=click.Path(path_type=Path), help="Where the file goes.")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
@click.option("--serve", is_flag=True, help="Serve it live on this machine, until Ctrl-C.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for --serve.")
@click.option("--port", default=0, help="Port for --serve; left out, a free one.")
@lang_option
@click.option("--wandb", "on_wandb", is_flag=True, help="Make or update the W&B workspace.")
@storage_option
@csv_option
@json_option
def command(
    sweep: str | None,
    out: Path | None,
    open_it: bool,
    serve: bool,
    host: str,
    port: int,
    lang: str,
    on_wandb: bool,
    storage: str | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Compare the trials of a sweep: curves against the plan, table, differences, verdicts.

    Writes one HTML file that needs no network and no account:

        pcan sweep compare pcan_ntu60 --open
    """
    one_form(as_json, as_csv)
    opened = open_sweep(sweep)
    if on_wandb:
        click.echo(_workspace(opened))
        return
    fresh = collector(opened, storage)
    if serve:
        _serve(fresh, (host, port), open_it, lang)
        return
    data = fresh()
    if as_json:
        click.echo(json.dumps(data))
        return
    if as_csv:
        print_csv(_rows(opened, data), ("trial", "state", "top1"))
        return
    file = _write_page(opened, data, out, lang)
    if open_it:
        serve_it = f"pcan sweep compare {shell_word(opened.sweep.name)} --serve"
        _open(file.resolve().as_uri(), f"Copy the file, or look from elsewhere: {serve_it}")


def _open(address: str, otherwise: str) -> None:
    """Open the page in a browser; on a machine without a screen say what to do `otherwise`."""
    screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if sys.platform == "linux" and not screen:
        click.echo(f"This machine has no screen to open it on. {otherwise}", err=True)
    else:
        click.launch(address)


def _rows(opened: "Opened", data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results, a row a trial."""
    from pipeline.report.paper.paper_tables import result_rows
    from pipeline.report.paper.sweep_summary import summary_of

    return result_rows(summary_of(data, opened.sweep.makers))


def _write_page(opened: "Opened", data: dict[str, Any], out: Path | None, lang: str) -> Path:
    """Write the page, print where it is, and return that."""
    from pipeline.plan.project import relative
    from pipeline.report.compare.page import build_page
    from pipeline.shared.files import make_private

    file = out or opened.project.runs / opened.sweep.name / "compare.html"
    if out is None:
        make_private(file.parent)
    page = build_page(data, file, lang=lang)
    click.echo(relative(file, Path.cwd()))
    count = counted(len(data["trials"]), "trial")
    click.echo(f"{count}, {len(page) / 1e6:.1f} MB", err=True)
    return file


def collector(
    opened: "Opened", storage: str | None, resolve: bool = True
) -> Callable[[], dict[str, Any]]:
    """Return a function that reads the sweep; it resolves a variant's schedule only once.

    Args:
        resolve: also find the true learning rates, which takes a process that imports torch.
    """
    from pipeline.report.compare.compare_record import StoredFacts, collect
    from pipeline.report.progress import row_gpu_hours
    from pipeline.study.importance import importances

    folder = opened.project.runs / opened.sweep.name
    resolved: set[str] = set()
    rates: dict[str, list[float]] = {}
    ranked: dict[tuple[str, ...], list[dict[str, Any]]] = {}

    def fresh() -> dict[str, Any]:
        tried = {spec.parts[-3] for spec in folder.glob("*/*/spec.json")}
        if resolve and tried - resolved:
            rates.update(_true_lr(opened, tried - resolved))
            resolved.update(tried)
        board = _board(opened, storage)
        ended = tuple(row.name for row in board if row.finished)
        if ended not in ranked:
            ranked.clear()
            ranked[ended] = importances(opened.sweep, board)
        stored = StoredFacts(
            phases={row.name: row.phase for row in board},
            hours={row.name: round(row_gpu_hours(row), 4) for row in board},
            distant=_distant(opened, storage, board),
            importances=ranked[ended],
        )
        return collect(folder, opened.sweep, rates, stored)

    return fresh


def _true_lr(opened: "Opened", variants: set[str]) -> Mapping[str, list[float]]:
    """Return the true learning rates by variant; print why any are missing."""
    from pipeline.errors import PcanError
    from pipeline.job.resolve import resolve_variants
    from pipeline.preflight.plan_facts import schedules

    try:
        configs = resolve_variants(opened.sweep, opened.project).configs
    except PcanError as error:
        click.echo(f"The true learning rate is missing. {error}", err=True)
        return {}
    chosen = {name: config for name, config in configs.items() if name in variants}
    rates, problems = schedules(opened.sweep, opened.project, chosen)
    for problem in problems:
        click.echo(problem, err=True)
    return rates


def _board(opened: "Opened", storage: str | None) -> "list[TrialRow]":
    """Return the storage's rows: only they say whether an owner is dead or a trial paused."""
    from pipeline.study.db.read_copy import open_to_read
    from pipeline.study.trial_rows import read_board

    if storage is None and not (opened.project.runs / "pcan.db").exists():
        return []
    store = open_to_read(storage, opened.project.runs, create=False)
    try:
        return read_board(opened.sweep.name, store)
    finally:
        store.close()


def _distant(
    opened: "Opened", storage: str | None, board: "list[TrialRow]"
) -> list[dict[str, Any]]:
    """Return the trials whose run directories are on other hosts, as the storage has them."""
    from pipeline.report.compare.compare_trials import distant_trials
    from pipeline.study.db.read_copy import open_to_read

    if not board:
        return []
    store = open_to_read(storage, opened.project.runs, create=False)
    try:
        return distant_trials(opened.sweep.name, board, opened.project, store)
    finally:
        store.close()


def _workspace(opened: "Opened") -> str:
    from pipeline.plan.project import MARK
    from pipeline.track.tracking import read_project
    from pipeline.track.workspace import save

    target, _ = read_project(opened.project.root / MARK)
    return save(opened.project.runs / opened.sweep.name, target)


def _serve(
    fresh: Callable[[], dict[str, Any]], place: tuple[str, int], open_it: bool, lang: str
) -> None:
    from pipeline.report.compare.serve import LOOPBACK, address, make_server, tunnel

    host, port = place
    server = make_server(fresh, host, port, lang)
    if host not in LOOPBACK:
        click.echo(
            f"Anyone who reaches {host} can read this sweep; there is no password.", err=True
        )
    click.echo(address(server))
    if host in LOOPBACK:
        click.echo(f"From elsewhere: {tunnel(server)}   then the same address there", err=True)
    port = server.server_address[1]
    click.echo(f"Read only; Ctrl-C ends it. At the same address again: --port {port}", err=True)
    if open_it:
        _open(address(server), "Open the address above elsewhere.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("", err=True)
    finally:
        server.server_close()
