"""`pcan data ...`: make, check and prepare a data set."""

from pathlib import Path

import click


@click.group("data")
def command() -> None:
    """Make, check and prepare a data set."""


@command.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--clips", default=60, show_default=True, help="Clips of each of the 8 actions.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other clips.")
def demo(folder: Path, clips: int, seed: int) -> None:
    """Make a small labelled set of drawn, moving people (video and joints).

    Half of the clips are for training, half for validation. A finished set is left alone.

    \b
    Example: pcan data demo data/demo
    """
    from pipeline.cli.progress import Bar
    from pipeline.data.demo import make_demo

    with Bar("Drawing clips") as bar:
        made = make_demo(folder, clips, seed, bar.update)
    click.echo(f"{folder}: {'made' if made else 'already there'}")
