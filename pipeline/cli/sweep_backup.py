"""`pcan sweep backup`: copy the study storage."""

import datetime
from pathlib import Path

import click

from pipeline.cli.common.options import storage_option


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="[default: runs/backup/DATE.db]")
@storage_option
def command(out: Path | None, storage: str | None) -> None:
    """Copy the study storage of this project while it is in use.

    \b
    Example:
      pcan sweep backup --out ~/pcan.db
    """
    from pipeline.manage.backup import backup
    from pipeline.plan.project import find_project, relative
    from pipeline.study.db.storage import open_storage

    project = find_project()
    store = open_storage(storage, project.runs, create=False)
    if out is None:
        folder = project.runs / "backup"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        out = folder / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}.db"
    size = backup(store, out.resolve())
    click.echo(f"{relative(out.resolve(), project.root)} ({size / 1e6:.1f} MB)")
