"""`pcan init`: a project folder."""

from pathlib import Path

import click

from pipeline.cli.common.options import echo_err


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Make DIR (default: this folder) a project: wandb.yaml, sweeps/, configs/.

    Nothing that is there is overwritten.

    \b
    Example:
      pcan init ntu60 && cd ntu60 && pcan sweep plan
    """
    from pipeline.manage.init_project import new_project

    for name in new_project(folder):
        click.echo(folder / name)
    where = "" if folder == Path(".") else f"cd {folder} && "
    echo_err(
        "Write your checkpoint, data and config into a file of sweeps/, then see what it will do: "
        f"{where}pcan sweep plan"
    )
