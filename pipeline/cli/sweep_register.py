"""`pcan sweep register`: make the studies; runs nothing."""

import click

from pipeline.cli.options import open_sweep, say_to_stderr, storage_option, sweep_argument


@click.command()
@sweep_argument
@storage_option
def register(sweep: str | None, storage: str | None) -> None:
    """Make one Optuna study for each variant of SWEEP and enqueue its recipe once.

    Safe to repeat: what changed in the file since is recorded with its date, a changed recipe gets
    a new trial, a changed metric is refused.

    \b
    Example:
      pcan sweep register pcan_ntu60
    """
    from pipeline.launch.registering import describe, register_all, resolved
    from pipeline.launch.rehearse import rehearsed
    from pipeline.launch.reread import told_anew
    from pipeline.study.board import read_board
    from pipeline.study.storage import open_storage

    opened = open_sweep(sweep)
    plan, project = opened.sweep, opened.project
    resolution = resolved(plan, project)
    rehearsed(plan, project, resolution, list(plan.variants), say_to_stderr)
    store = open_storage(storage, project.runs)
    done = register_all(plan, store, resolution)
    for line in describe(done) or ["Nothing has changed."]:
        say_to_stderr(line)
    if any(one.changed for one in done):
        for line in told_anew(plan, project, read_board(plan.name, store)):
            say_to_stderr(line)
    for one in done:
        click.echo(one.study)
