"""`pcan sweep continue`: overrule a verdict."""

import click

from pipeline.cli.common.options import echo_err, open_sweep, storage_option


@click.command()
@click.argument("trial", metavar="VARIANT/N")
@click.option("--sweep", "sweep", metavar="SWEEP", help="[default: the project's first plan]")
@storage_option
def command(trial: str, sweep: str | None, storage: str | None) -> None:
    """Let a trial go on that a gate or patience has stopped; who decided it is recorded.

    A running trial has its stop lifted. A finished one stays on record; a new trial goes on from
    its last checkpoint, and the next gates judge it as ever. A trial that failed starts again
    from its last checkpoint.

    \b
    Example:
      pcan sweep continue baseline/0 --sweep demo
    """
    from pipeline.manage.continue_trial import continue_trial
    from pipeline.study.db.storage import open_storage

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    echo_err(continue_trial(opened.sweep, opened.project, store, trial))
