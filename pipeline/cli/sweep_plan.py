"""`pcan sweep plan`: what a sweep will do, before it costs a GPU hour."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    Opened,
    echo_err,
    json_option,
    open_sweep,
    print_json,
    storage_option,
    sweep_argument,
)

if TYPE_CHECKING:
    from pipeline.preflight.plan_facts import Resolved
    from pipeline.report.plan.plan_record import PlanView


@click.command("plan")
@sweep_argument
@click.argument("variant", required=False)
@click.option("--full", is_flag=True, help="Every variant, rate and finding, resolved ones too.")
@click.option("--clips", type=click.IntRange(1), help="Size of the validation set, for the lint.")
@click.option("--search", "searching", is_flag=True, help="What a search may cost, by rule.")
@click.option("--trials", type=click.IntRange(1, 1000), help="Trials, for --search.")
@storage_option
@json_option
def command(
    sweep: str | None,
    variant: str | None,
    full: bool,
    clips: int | None,
    searching: bool,
    trials: int | None,
    storage: str | None,
    as_json: bool,
) -> int:
    """Show the ladder, the variants, the gates, the lint and the cost; run nothing.

    One screen; with the name of a VARIANT that variant alone, with --full everything. The name of
    the sweep may be left out before that of a variant. With --search: what `pcan sweep search`
    would search, and its GPU hours by stopping rule, from the curves in this storage.

    Where a config cannot be resolved, what the sweep file alone says is shown, and the exit code
    is not 0.

    Example:

        pcan sweep plan pcan_ntu60
        pcan sweep plan pcan_ntu60 pose-1.5
    """
    from pipeline.preflight.plan_facts import resolved
    from pipeline.report.plan.plan_record import plan_record

    opened, variant = _opened(sweep, variant)
    facts = resolved(opened.sweep, opened.project)
    view = _view(opened, facts, clips)
    search = _search(opened, facts, storage, trials) if searching else None
    if as_json:
        print_json({**plan_record(view), **({"search": search} if search else {})})
    else:
        click.echo(_text(view, variant, search, full=full))
    return facts.exit_code


def _view(opened: Opened, facts: "Resolved", clips: int | None) -> "PlanView":
    """Return what is shown of the plan; print which settings of the configs count for nothing.

    Args:
        clips: size of the validation set; None to take it from the runs.
    """
    from pipeline.diagnose.trial import known_clips
    from pipeline.plan.config_checks import ignored_settings
    from pipeline.plan.lint.lint_finding import lint_context
    from pipeline.report.plan.plan_record import plan_view

    plan, project = opened.sweep, opened.project
    for line in ignored_settings(plan, {name: c.facts for name, c in facts.configs.items()}):
        echo_err(line)
    clips = clips or known_clips(project.runs, plan.name)
    subject = lint_context(plan, facts.bases, facts.true_lr, clips)
    changes = {name: config.changes for name, config in facts.configs.items()}
    return plan_view(subject, changes, facts.problems, facts.ceilings, facts.refused)


def _text(
    view: "PlanView", variant: str | None, search: dict[str, Any] | None, *, full: bool
) -> str:
    """Return the search, one variant, or the whole plan as text."""
    from pipeline.report.plan.screen import one_variant, plan_screen
    from pipeline.report.plan.search_estimate import search_text
    from pipeline.report.plan.text import plan_text

    if search is not None:
        return search_text(search)
    if variant is not None:
        return one_variant(view, variant)
    return plan_text(view) if full else plan_screen(view)


def _opened(sweep: str | None, variant: str | None) -> tuple[Opened, str | None]:
    """Return the sweep and the variant that are meant; one word alone may be either."""
    from pipeline.errors import InputError
    from pipeline.launch.context import RunOrder
    from pipeline.launch.scheduler import check_order
    from pipeline.plan.project import find_project

    if sweep is not None and variant is None:
        try:
            find_project().sweep_file(sweep)
        except InputError:
            usual = _usual_sweep_with(sweep)
            if usual is None:
                raise
            return usual, sweep
    opened = open_sweep(sweep)
    if variant is not None:
        check_order(opened.sweep, RunOrder(variants=(variant,)))
    return opened, variant


def _usual_sweep_with(variant: str) -> Opened | None:
    """Return the sweep that is meant when none is named, if it has this variant."""
    from pipeline.errors import InputError

    try:
        usual = open_sweep(None)
    except InputError:
        return None
    return usual if variant in usual.sweep.variants else None


def _search(
    opened: Opened, facts: "Resolved", storage: str | None, trials: int | None
) -> dict[str, Any]:
    """Return what a search would do and cost."""
    from pipeline.errors import InputError
    from pipeline.launch.search_setup import choose_variant
    from pipeline.report.plan.search_estimate import search_record
    from pipeline.study.db.read_copy import open_to_read
    from pipeline.study.trial_rows import read_board

    if not facts.configs:
        raise InputError(" ".join(facts.problems))
    study_storage = open_to_read(storage, opened.project.runs, echo_err, create=False)
    try:
        rows = read_board(opened.sweep.name, study_storage)
        variant = choose_variant(opened.sweep, rows, None)
        chosen = facts.configs[variant].facts
        return search_record(opened.sweep, variant, chosen, study_storage, rows, trials)
    finally:
        study_storage.close()
