"""`pcan diagnose`: a training log against known failure causes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.each_log import end_with, for_each
from pipeline.cli.common.options import (
    csv_option,
    json_option,
    one_form,
    open_sweep,
    print_csv,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.diagnose.log_case import Finding, LogCase
    from pipeline.diagnose.plan_context import PlanContext
    from pipeline.diagnose.runner import Rule


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--trial", metavar="VARIANT/N", help="A trial of the sweep instead of a log.")
@click.option("--plan", metavar="SWEEP", help="Also compare it with a plan: lr and bands.")
@click.option("--variant", metavar="NAME", help="The plan's variant; default: the first.")
@click.option("--metric", metavar="NAME", help="The metric to judge; default: the log's top-1.")
@click.option("--clips", type=click.IntRange(1), help="Size of the validation set.")
@csv_option
@json_option
def command(
    logs: tuple[Path, ...],
    trial: str | None,
    plan: str | None,
    variant: str | None,
    metric: str | None,
    clips: int | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show what went wrong in a training, with epochs, lines and numbers.

    LOG is a log file (MMEngine or MMCV text, scalars.json, .log.json, measurements.jsonl,
    CSV of epoch,top1[,lr]) or a work dir. Example:

        pcan diagnose work_dirs/pcan_ntu60 --plan pcan_ntu60
    """
    from pipeline.diagnose.runner import diagnosis_text

    one_form(as_json, as_csv)
    if bool(logs) == bool(trial):
        raise click.UsageError("Give logs, or a trial of a sweep: --trial VARIANT/N")
    context = _plan_context(plan, variant, trial)
    rules, notes = context.rules()
    reports: list[dict[str, Any]] = []

    def look(log: Path) -> None:
        case = _case(log, context, metric, clips)
        findings = _findings(log, case, rules)
        if as_json or as_csv:
            reports.append(_report(case, findings, notes))
        else:
            click.echo(diagnosis_text(case, findings, notes))

    failed = for_each(logs or context.logs, look, reports)
    if as_json:
        print_json(reports)
    elif as_csv:
        print_csv(_finding_rows(reports), ("log", "id", "severity", "epoch", "evidence", "remedy"))
    end_with(failed)


def _case(log: Path, context: "PlanContext", metric: str | None, clips: int | None) -> "LogCase":
    """Return the curves of a log, read by the metric that was named or the plan's."""
    from pipeline.diagnose.log_case import make_case
    from pipeline.diagnose.read_log import read_log

    curve = read_log(log)
    name = metric or context.metric(curve.metric_names())
    return make_case(curve, metric=name, start=context.start, clips=clips)


def _findings(log: Path, case: "LogCase", rules: "Sequence[Rule]") -> "list[Finding]":
    """Return what the rules find; a trial's folder also has labels and hardware."""
    from pipeline.diagnose.rules.hardware import hardware_rules
    from pipeline.diagnose.rules.label_fit import labels_of
    from pipeline.diagnose.runner import examine
    from pipeline.diagnose.trial import is_trial

    own = [labels_of(log), *hardware_rules(log)] if is_trial(log) else []
    return examine(case, [*rules, *own])


def _report(case: "LogCase", findings: "list[Finding]", notes: "Sequence[str]") -> dict[str, Any]:
    """Return what `--json` says of one log."""
    from pipeline.diagnose.runner import report

    entry = report(case, findings)
    return {**entry, "notes": [*entry["notes"], *notes]}


def _finding_rows(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row a finding; a log without any has a row of its own."""
    return [
        {"log": report["log"], "error": report.get("error"), **finding}
        for report in reports
        for finding in report.get("findings") or [{}]
    ]


def _plan_context(plan: str | None, variant: str | None, trial: str | None) -> "PlanContext":
    """Return the plan that the logs are compared with; an empty one without options."""
    from pipeline.diagnose.plan_context import PlanContext, choose_variant, of_trial

    if plan is None and trial is None and variant is None:
        return PlanContext()
    opened = open_sweep(plan)
    project, sweep = opened.project, opened.sweep
    folder = None
    if trial is not None:
        chosen, folder = of_trial(sweep, project.runs, trial)
    else:
        chosen = choose_variant(sweep, variant)

    def schedule() -> "tuple[list[float] | None, tuple[str, ...]]":
        from pipeline.job.resolve import ResolvedConfig, digest
        from pipeline.preflight.plan_facts import resolved, schedules
        from pipeline.shared.rundir import RunDir

        if folder is None or not RunDir(folder).config.is_file():
            facts = resolved(sweep, project, only=chosen.name)
            return facts.true_lr.get(chosen.name), facts.problems
        text = RunDir(folder).config.read_text(encoding="utf-8", errors="replace")
        own = ResolvedConfig(text=text, hash=digest(text), changes=(), facts={})
        rates, problems = schedules(sweep, project, {chosen.name: own})
        return rates.get(chosen.name), problems

    return PlanContext(sweep=sweep, variant=chosen, folder=folder, schedule=schedule)
