"""`pcan sweep backup`, `clean` and `sync`: copy the storage, delete checkpoints, send to W&B."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    echo_err,
    json_option,
    open_sweep,
    print_json,
    storage_option,
    sweep_argument,
)
from pipeline.shared.counted import counted

if TYPE_CHECKING:
    from pipeline.manage.clean import CleanupPlan


@click.command()
@sweep_argument
@click.option("--yes", is_flag=True, help="Delete; without it, only show what would be deleted.")
@storage_option
@json_option
def clean(sweep: str | None, yes: bool, storage: str | None, as_json: bool) -> None:
    """Delete the checkpoints of SWEEP's trials that ended and are not the best.

    Measurements and logs stay, and so do the best trial, everything that can be resumed, trials
    that make starting weights, and exports. A cleaned trial cannot be continued or exported.

    \b
    Example:
      pcan sweep clean demo          # shows what would be deleted, and its size
      pcan sweep clean demo --yes
    """
    from pipeline.manage.clean import clean as delete
    from pipeline.manage.clean import find_deletable
    from pipeline.study.db.read_copy import open_to_read
    from pipeline.study.trial_rows import read_board

    opened = open_sweep(sweep)
    store = open_to_read(storage, opened.project.runs, echo_err, locked=yes)
    name = opened.sweep.name
    plan = find_deletable(opened.sweep, opened.project, read_board(name, store))
    rows = [
        {"trial": one.trial, "state": one.state, "files": len(one.files), "bytes": one.bytes}
        for one in plan.deletable
    ]
    if yes:
        plan = delete(opened.sweep, opened.project, store)
    if as_json:
        record = {"schema": 1, "sweep": name, "deleted": yes, "freed": plan.freed}
        kept_for = list(plan.stages)
        print_json({**record, "kept": plan.kept, "kept_for_stages": kept_for, "trials": rows})
        return
    _print_plan(name, plan, rows, deleted=yes)


def _print_plan(
    name: str, plan: "CleanupPlan", rows: list[dict[str, Any]], *, deleted: bool
) -> None:
    """Print each trial that is or would be cleaned, what is kept, and how to delete."""
    for row in rows:
        click.echo(f"{row['trial']:<24} {row['state']:<9} {counted(row['files'], 'file')}")
    kept = f"; kept as the best: {plan.kept}" if plan.kept else ""
    kept += f"; kept for later stages: {', '.join(plan.stages)}" if plan.stages else ""
    if not rows:
        echo_err(f"{name} has no checkpoints of losers{kept}.")
    elif deleted:
        echo_err(f"Deleted, {_size(plan.freed)} freed{kept}.")
    else:
        echo_err(
            f"{_size(plan.freed)} would be freed{kept}. Delete: pcan sweep clean {name} --yes"
        )


def _size(count: int) -> str:
    """Return a number of bytes in MB or GB, exact below a megabyte."""
    if count < 1_000_000:
        return f"{count} bytes"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@click.command()
@sweep_argument
@click.option(
    "--rebuild",
    is_flag=True,
    help="Make new W&B runs from the measurements, where the old ones were damaged or deleted.",
)
@click.option("--with-config", is_flag=True, help="Also send each trial's config.py.")
@click.option("--with-weights", is_flag=True, help="Also send the exported winner's weights.")
@json_option
def sync(
    sweep: str | None, rebuild: bool, with_config: bool, with_weights: bool, as_json: bool
) -> None:
    """Send a sweep's trials to W&B; safe to repeat.

    Sends only epochs that the server lacks, from the run directories:

        pcan sweep sync pcan_ntu60
    """
    import dataclasses
    import json

    from pipeline.errors import TrackingError
    from pipeline.plan.project import MARK
    from pipeline.track.sync import send_files, sync_sweep
    from pipeline.track.tracking import read_project

    opened = open_sweep(sweep)
    sweep_dir = opened.project.runs / opened.sweep.name
    target, _ = read_project(opened.project.root / MARK)
    reports = sync_sweep(sweep_dir, target, rebuild, lambda name: click.echo(name, err=True))
    if with_config or with_weights:
        export = opened.project.exports(opened.sweep.name) if with_weights else None
        send_files(sweep_dir, target, with_config, export)
    if as_json:
        shown = [dataclasses.asdict(report) for report in reports]
        click.echo(json.dumps({"schema": 1, "sweep": opened.sweep.name, "trials": shown}))
    else:
        for report in reports:
            click.echo(report.line())
    left = [report for report in reports if not report.synced]
    if left:
        raise TrackingError(
            f"{len(reports) - len(left)} of {counted(len(reports), 'trial is', 'trials are')} "
            "complete on W&B. "
            "Nothing is lost; send the rest later: pcan sweep sync"
        )


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="[default: runs/backup/DATE.db]")
@storage_option
def backup(out: Path | None, storage: str | None) -> None:
    """Copy the study storage of this project while it is in use.

    \b
    Example:
      pcan sweep backup --out ~/pcan.db
    """
    from pipeline.manage import backup as copy
    from pipeline.plan.project import find_project, relative
    from pipeline.shared.files import make_private
    from pipeline.study.db.read_copy import open_to_read

    project = find_project()
    store = open_to_read(storage, project.runs, echo_err, create=False)
    if out is None:
        folder = project.runs / "backup"
        make_private(folder)
        out = folder / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}.db"
    size = copy.backup(store, out)
    click.echo(f"{relative(out.resolve(), project.root)} ({size / 1e6:.1f} MB)")
