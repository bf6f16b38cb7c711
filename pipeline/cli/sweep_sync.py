"""`pcan sweep sync`: send to W&B what it does not hold yet."""

import click

from pipeline.cli.common.options import json_option, open_sweep, sweep_argument


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
def command(
    sweep: str | None, rebuild: bool, with_config: bool, with_weights: bool, as_json: bool
) -> None:
    """Send a sweep's trials to W&B; may be repeated at will.

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
            f"{len(reports) - len(left)} of {len(reports)} trials are complete on W&B. "
            "Nothing is lost; send the rest later: pcan sweep sync"
        )
