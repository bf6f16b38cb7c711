"""`pcan sweep import`: earlier runs, from their logs, as finished trials."""

from pathlib import Path

import click

from pipeline.cli.common.options import echo_err, open_sweep, storage_option


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--sweep", "sweep", metavar="SWEEP", help="[default: the project's first plan]")
@click.option("--variant", metavar="NAME", help="The variant it is, where no config says so.")
@click.option("--metric", metavar="NAME", help="What the log calls the sweep's metric.")
@click.option("--clips", type=click.IntRange(1), help="Size of its validation set.")
@storage_option
def command(
    logs: tuple[Path, ...],
    sweep: str | None,
    variant: str | None,
    metric: str | None,
    clips: int | None,
    storage: str | None,
) -> None:
    """Add earlier runs to a sweep as finished trials, from any log that `pcan diagnose` reads.

    A run goes to the variant whose recipe its config is, else to a study named "imported". A
    search learns from it, status and compare show it, best never exports it. The same log counts
    once.

    \b
    Example:
      pcan sweep import work_dirs/first_try work_dirs/second_try --sweep pcan_ntu60
    """
    from pipeline.diagnose.evidence import read_evidence
    from pipeline.launch.registration import describe, register_all
    from pipeline.manage.import_runs import import_run
    from pipeline.preflight.plan_facts import resolve_and_check
    from pipeline.study.db.storage import open_storage

    opened = open_sweep(sweep)
    resolution = resolve_and_check(opened.sweep, opened.project)
    texts = {name: config.text for name, config in resolution.configs.items()}
    found = [
        read_evidence(opened.sweep, texts, log, metric=metric, clips=clips, variant=variant)
        for log in logs
    ]
    store = open_storage(storage, opened.project.runs)
    try:
        for line in describe(register_all(opened.sweep, store, resolution)):
            echo_err(line)
        for evidence in found:
            click.echo(import_run(opened.sweep, opened.project, store, evidence))
    finally:
        store.close()
