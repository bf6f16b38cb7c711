"""`pcan gates lint` and `pcan gates replay`: check a plan's rules, and replay them on old logs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.each_log import end_with, for_each
from pipeline.cli.common.groups import CommandGroup
from pipeline.cli.common.options import (
    Amount,
    Opened,
    echo_err,
    json_option,
    open_sweep,
    print_json,
    storage_option,
    sweep_argument,
)

if TYPE_CHECKING:
    from pipeline.plan.lint.floor_error import FinishedRun


@click.group(cls=CommandGroup)
def command() -> None:
    """Check a plan's gates, and replay them on old logs."""


@command.command()
@sweep_argument
@click.option(
    "--clips",
    type=click.IntRange(1),
    help="Size of the validation set; default: as a trial recorded it.",
)
@click.option("--offline", is_flag=True, help="Skip checks that need the base config.")
@storage_option
@json_option
@click.pass_context
def lint(
    context: click.Context,
    sweep: str | None,
    clips: int | None,
    offline: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Find overlaps, gaps and rules of a plan that can never apply.

    Also says how often each floor would stop a run that ends at the goal, as earlier runs in the
    storage went (`pcan sweep import` adds some), and which floor would stop at most 5 % of them.
    Exit code 2 if a rule cannot work. Example:

        pcan gates lint pcan_ntu60 --clips 16487
    """
    from pipeline.diagnose.trial import known_clips
    from pipeline.plan.lint.floor_error import floor_errors
    from pipeline.plan.lint.lint_finding import lint_context
    from pipeline.plan.lint.runner import lint as check
    from pipeline.preflight.plan_facts import Resolved, resolved
    from pipeline.report.plan.text import floor_text, lint_text

    opened = open_sweep(sweep)
    plan, project = opened.sweep, opened.project
    known = Resolved() if offline else resolved(plan, project)
    clips = clips or known_clips(project.runs, plan.name)
    subject = lint_context(plan, known.bases, known.true_lr, clips)
    findings, floors = check(subject), floor_errors(subject, _earlier_runs(opened, storage))
    for problem in known.problems:
        click.echo(f"Not checked: {problem}", err=True)
    if as_json:
        entries = [finding.record() for finding in findings]
        errors = [floor.record() for floor in floors]
        print_json({"schema": 1, "sweep": plan.name, "lint": entries, "floors": errors})
    else:
        click.echo(lint_text(plan, findings))
        click.echo(floor_text(plan, floors), nl=bool(floors))
    if any(f.severity == "error" and f.resolved is None for f in findings):
        context.exit(2)


def _earlier_runs(opened: Opened, storage: str | None) -> "list[FinishedRun]":
    """Return the sweep's finished runs, none where there is no storage yet."""
    from pipeline.study.db.read_copy import open_to_read
    from pipeline.study.trial_curves import finished_runs

    if storage is None and not opened.project.runs.is_dir():
        return []
    store = open_to_read(storage, opened.project.runs, echo_err, create=False)
    return finished_runs(opened.sweep, store)


@command.command()
@click.argument("sweep")
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--variant",
    metavar="NAME",
    help="The variant whose rules to use; default: the ladder's first.",
)
@click.option("--best-known", type=Amount(0, 1), help="Another best known accuracy.")
@click.option("--metric", metavar="NAME", help="The metric to judge; default: the log's top-1.")
@click.option("--clips", type=click.IntRange(1), help="Size of the validation set.")
@json_option
def replay(
    sweep: str,
    logs: tuple[Path, ...],
    variant: str | None,
    best_known: float | None,
    metric: str | None,
    clips: int | None,
    as_json: bool,
) -> None:
    """Show what a plan's gates and patience would have done on old logs.

    Example:

        pcan gates replay pcan_ntu60 work_dirs/failed_run
    """
    from pipeline.diagnose.plan_context import PlanContext, choose_variant, replay_log
    from pipeline.plan.replay import with_best_known
    from pipeline.report.plan.text import replay_text

    plan = open_sweep(sweep).sweep
    if best_known is not None:
        plan = with_best_known(plan, best_known)
    planned = PlanContext(sweep=plan, variant=choose_variant(plan, variant))
    entries: list[dict[str, Any]] = []

    def judge(log: Path) -> None:
        curve, result, notes = replay_log(planned, log, metric, clips)
        if as_json:
            fields = {"schema": 1, "log": curve.path, **result.record(), "notes": list(notes)}
            entries.append(fields)
        else:
            click.echo(replay_text(plan, curve.path, result, notes))

    failed = for_each(logs, judge, entries)
    if as_json:
        print_json(entries)
    end_with(failed)
