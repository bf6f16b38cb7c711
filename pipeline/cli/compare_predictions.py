"""`pcan compare-predictions`: is one file of predictions better than another, or is it chance."""

from pathlib import Path

import click

from pipeline.cli.common.options import json_option, print_json


@click.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@json_option
def command(first: Path, second: Path, as_json: bool) -> None:
    """Compare two files of predictions on the same clips, by McNemar's test.

    A and B are CSV, TSV, JSON or JSON lines with clip, label, and class or scores (one number a
    class), or files that a run keeps (predictions/epoch_N.bin).

    \b
    Example:
      pcan compare-predictions ours.csv theirs.csv
    """
    from pipeline.plan.verdict import shown_reading, standard_error
    from pipeline.report.stats.prediction_files import compare_files
    from pipeline.shared.counted import counted

    found = compare_files(first, second)
    if as_json:
        print_json(found)
        return
    for side in ("first", "second"):
        top1 = found[side]["top1"]
        reading = shown_reading(top1, standard_error(top1, found["clips"]))
        click.echo(f"{found[side]['file']}: top-1 {reading} on {counted(found['clips'], 'clip')}")
    click.echo(found["sentence"])
