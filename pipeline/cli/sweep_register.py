"""`pcan sweep register`: make the studies; runs nothing."""

import click

from pipeline.cli.common.options import echo_err, open_sweep, storage_option, sweep_argument


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
    from pipeline.launch.plan_reloader import changed_verdicts
    from pipeline.launch.registration import describe, register_all
    from pipeline.preflight.model_probe import probe_models
    from pipeline.preflight.plan_facts import resolve_and_check
    from pipeline.study.db.storage import open_storage
    from pipeline.study.trial_rows import read_board

    opened = open_sweep(sweep)
    plan, project = opened.sweep, opened.project
    resolution = resolve_and_check(plan, project)
    probe_models(plan, project, resolution, list(plan.variants), echo_err)
    store = open_storage(storage, project.runs)
    done = register_all(plan, store, resolution)
    for line in describe(done) or ["Nothing has changed."]:
        echo_err(line)
    if any(one.changed for one in done):
        for line in changed_verdicts(plan, project, read_board(plan.name, store)):
            echo_err(line)
    for one in done:
        click.echo(one.study)
