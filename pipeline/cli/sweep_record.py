"""`pcan sweep register`, `import` and `continue`: add trials to the studies; these run no job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.common.each_log import end_with, for_each
from pipeline.cli.common.options import (
    Opened,
    echo_err,
    open_sweep,
    storage_option,
    sweep_argument,
)
from pipeline.errors import PcanError

if TYPE_CHECKING:
    from pipeline.diagnose.evidence import EarlierRun


@click.command()
@sweep_argument
@storage_option
def register(sweep: str | None, storage: str | None) -> None:
    """Make one Optuna study for each variant of SWEEP and enqueue its recipe once.

    Safe to repeat: changes of the file are recorded with their date, a changed recipe gets a new
    trial, a changed metric is refused.

    \b
    Example:
      pcan sweep register pcan_ntu60
    """
    from pipeline.launch.plan_reloader import changed_verdicts
    from pipeline.preflight.model_probe import probe_models
    from pipeline.preflight.plan_facts import resolve_and_check
    from pipeline.study.db.storage import open_storage
    from pipeline.study.register import register_all, registration_lines
    from pipeline.study.trial_rows import read_board

    opened = open_sweep(sweep)
    plan, project = opened.sweep, opened.project
    resolution = resolve_and_check(plan, project)
    probe_models(plan, project, resolution, list(plan.variants), echo_err)
    store = open_storage(storage, project.runs)
    done = register_all(plan, store, resolution.hashes)
    for line in registration_lines(done) or ["Nothing has changed."]:
        echo_err(line)
    if any(one.changed for one in done):
        for line in changed_verdicts(plan, project, read_board(plan.name, store)):
            echo_err(line)
    for one in done:
        click.echo(one.study)


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--sweep", "sweep", metavar="SWEEP", help="[default: the project's first plan]")
@click.option("--variant", metavar="NAME", help="Its variant, if no config lies beside the log.")
@click.option("--metric", metavar="NAME", help="The name of the sweep's metric in the log.")
@click.option("--clips", type=click.IntRange(1), help="Size of its validation set.")
@storage_option
def import_runs(
    logs: tuple[Path, ...],
    sweep: str | None,
    variant: str | None,
    metric: str | None,
    clips: int | None,
    storage: str | None,
) -> None:
    """Add earlier runs to a sweep as finished trials, from any log that `pcan diagnose` reads.

    A run goes to the variant whose recipe its config is, else to a study named "imported". A
    search learns from it, status and compare show it, best never exports it. Each log counts
    once.

    \b
    Example:
      pcan sweep import work_dirs/first_try work_dirs/second_try --sweep pcan_ntu60
    """
    from pipeline.diagnose.evidence import read_evidence
    from pipeline.preflight.plan_facts import resolve_and_check

    opened = open_sweep(sweep)
    resolution = resolve_and_check(opened.sweep, opened.project)
    texts = {name: config.text for name, config in resolution.configs.items()}
    runs: list[EarlierRun] = []

    def read(log: Path) -> None:
        runs.append(
            read_evidence(opened.sweep, texts, log, metric=metric, clips=clips, variant=variant)
        )

    failed = for_each(logs, read, [])
    if runs:
        failed += _add_runs(opened, storage, resolution.hashes, runs)
    end_with(failed)


def _add_runs(
    opened: Opened, storage: str | None, hashes: Mapping[str, str], runs: "Sequence[EarlierRun]"
) -> list[PcanError]:
    """Register the sweep, add each run as a trial and print its name; return what failed."""
    from pipeline.manage.import_runs import import_run
    from pipeline.study.db.storage import open_storage
    from pipeline.study.register import register_all, registration_lines

    store = open_storage(storage, opened.project.runs)
    try:
        for line in registration_lines(register_all(opened.sweep, store, hashes)):
            echo_err(line)
        by_log = {Path(run.log): run for run in runs}
        return for_each(
            tuple(by_log),
            lambda log: click.echo(import_run(opened.sweep, opened.project, store, by_log[log])),
            [],
        )
    finally:
        store.close()


@click.command()
@click.argument("trial", metavar="VARIANT/N")
@click.option("--sweep", "sweep", metavar="SWEEP", help="[default: the project's first plan]")
@storage_option
def continue_(trial: str, sweep: str | None, storage: str | None) -> None:
    """Continue a trial that a gate or patience has stopped; who decided it is recorded.

    The stop of a running trial is cancelled. A finished one stays as it is; a new trial continues
    from its last checkpoint, and the next gates judge it as usual. A failed trial starts again
    from its last checkpoint, as with pcan sweep launch SWEEP --variant NAME.

    \b
    Example:
      pcan sweep continue baseline/0 --sweep demo
    """
    from pipeline.manage.continue_trial import continue_trial
    from pipeline.study.db.storage import open_storage

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    echo_err(continue_trial(opened.sweep, opened.project, store, trial))
