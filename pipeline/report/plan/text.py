"""The words of `pcan sweep plan` and `pcan gates`: a plan, its lint, its replay on a log.

A plan is shown as its ladder, drawn as a tree, then each variant: what it changes, its gates, the
lr beside the plan's table, the expected band.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.plan.cost import gpu_hours
from pipeline.plan.course import expected
from pipeline.plan.lint.floor_error import FloorError
from pipeline.plan.lint.lint_finding import LintFinding
from pipeline.plan.replay import Replay
from pipeline.plan.sweep import LadderRule, Sweep, Variant
from pipeline.plan.verdict import Verdict, percent
from pipeline.report.plan.plan_record import PlanView, VariantView
from pipeline.shared.counted import all_of, counted
from pipeline.shared.states import Cause

#: Number of epochs shown of a long course when the plan names none itself.
_SHOWN_EPOCHS = 8


def plan_text(view: PlanView) -> str:
    """Return the whole preview."""
    parts = [
        head_text(view),
        "\n".join(_ladder(view)),
        *(variant_text(v) for v in view.variants),
        lint_text(view.sweep, view.lint),
        problems_text(view),
    ]
    return "\n\n".join(part for part in parts if part)


def problems_text(view: PlanView) -> str:
    """Return what could not be shown, and why a launch would refuse the plan, a line each."""
    return "\n".join(
        [f"Not shown: {problem}" for problem in view.problems]
        + [f"A launch refuses this: {problem}" for problem in view.refused]
    )


def head_text(view: PlanView) -> str:
    """Return what the plan is about and what it may cost."""
    sweep = view.sweep
    goal = f", goal {percent(sweep.objective.goal)}" if sweep.objective.goal is not None else ""
    known = sweep.objective.best_known
    start = f", best known {percent(known)}" if known is not None else ""
    head = f"{sweep.name} ({sweep.shown_path}): {sweep.objective.metric}{goal}{start}"
    used = ", ".join(f"{k} {v}" if v is not True else k for k, v in sweep.job.speed.used().items())
    head += f"\nFaster, for all variants: {used} (docs/speed.md)" if used else ""
    if view.worst_epochs is None:
        return head
    hours = _hours(view.worst_gpu_hours, sweep.job.gpus)
    return f"{head}\nAt worst {counted(view.worst_epochs, 'epoch')} by the ladder{hours}"


def _ladder(view: PlanView) -> Iterator[str]:
    """Draw the start, and below each condition the variants tried next, in order."""
    yield _named(view.first)
    rules = view.sweep.ladder.after
    for i, rule in enumerate(rules):
        last = i == len(rules) - 1
        yield f"{'└' if last else '├'}─ {rule.condition()}{_cut(view, rule)}"
        for j, name in enumerate(rule.next):
            branch = "└" if j == len(rule.next) - 1 else "├"
            follower = next(v for v in view.variants if v.variant.name == name)
            then = "then" if j == 0 else "or if that was tried,"
            yield f"{' ' if last else '│'}  {branch}─ {then} {_named(follower)}"
    rest = [v.variant.name for v in view.variants if not v.variant.in_ladder]
    if rest:
        yield f"Not in the ladder: {', '.join(rest)}"


def _cut(view: PlanView, rule: LadderRule) -> str:
    if rule.epoch is None:
        return ""
    return (
        f" (stopped after "
        f"{counted(rule.epoch, 'epoch')}{_hours(gpu_hours(view.sweep, rule.epoch), 0)})"
    )


def _named(view: VariantView) -> str:
    plan = f" (plan {view.variant.plan})" if view.variant.plan else ""
    epochs = f", {counted(view.epochs, 'epoch')}" if view.epochs else ""
    return f"{view.variant.name}{plan}{epochs}{_hours(view.gpu_hours, 0)}"


def _hours(hours: float | None, gpus: int) -> str:
    if hours is None:
        return ""
    wall = f", {hours / gpus:g} h on {counted(gpus, 'GPU')}" if gpus else ""
    return f", {hours:g} GPU hours{wall}"


def variant_text(view: VariantView) -> str:
    """Return one variant: what it changes, where it starts, its gates and rates."""
    return "\n".join(_variant(view))


def _variant(view: VariantView) -> Iterator[str]:
    variant = view.variant
    against = view.compared_with or f"its base config {variant.config}"
    yield _named(view)
    if variant.metric is not None:
        yield f"  measured by {variant.metric}, so not comparable with variants that are not"
    if view.changes is None:
        yield "  set, not resolved: " + ", ".join(f"{k} = {v}" for k, v in variant.set.items())
    elif not view.changes:
        yield f"  the same config as {against}"
    else:
        yield f"  differs from {against} in:"
        yield from (f"    {c.path}: {_short(c.old)} -> {_short(c.new)}" for c in view.changes)
    yield f"  starts from: {_start(variant)}"
    yield from (f"  gate, {gate.describe()}" for gate in variant.gates)
    if variant.patience is not None:
        patience = variant.patience
        yield f"  patience: {counted(patience.epochs, 'epoch')}, min_delta {patience.min_delta:g}"
    yield from _course(view)


def _start(variant: Variant) -> str:
    start = variant.warm_start
    if start is None:
        return "random weights (or what the base config loads)"
    expect = f", validated {percent(start.expect)}" if start.expect is not None else ""
    if start.best_of is not None:
        return f"the best complete trial of {start.best_of}{expect}"
    return f"{start.checkpoint}{expect}"


def _course(view: VariantView) -> Iterator[str]:
    """Return the true lr, beside the plan's table where there is one, and the band."""
    if not view.lr:
        return
    bands = {band.epoch: band for band in view.variant.bands}
    different = {difference.epoch for difference in view.table}
    beside = view.compared_with is None
    column = "lr (true)" if view.follows is None else "lr (most)"
    yield f"  epoch  {column}   {'lr (table)  ' if beside else ''}expected top-1"
    for epoch in sorted(bands) or _some(len(view.lr)):
        if epoch > len(view.lr):
            continue
        band = bands.get(epoch)
        table = f"{band.lr:.3g}" if band and band.lr is not None else ""
        table = f"{table:<8}{' *' if epoch in different else '  '}  " if beside else ""
        low_high = expected(view.variant.bands, epoch)
        course = f"{percent(low_high[0])}-{percent(low_high[1])}" if low_high else ""
        line = f"  {epoch:>5}  {view.lr[epoch - 1]:<10.3g}  {table}{course}"
        yield line.rstrip()
    if view.follows is not None:
        yield f"  the schedule follows {view.follows} and lowers the lr when that stands still;"
        yield "  the column is the most it can be, and a run is not compared with it"
    if different:
        yield "  * the table is rounded by hand; a run is compared with the true lr"


def _some(epochs: int) -> list[int]:
    step = max(1, round(epochs / _SHOWN_EPOCHS))
    return sorted({1, *range(step, epochs + 1, step), epochs})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def lint_text(sweep: Sweep, findings: Sequence[LintFinding]) -> str:
    """Return the findings, the open ones first."""
    unsettled = [f for f in findings if f.resolved is None]
    settled = [f for f in findings if f.resolved is not None]
    lines = [f"{sweep.shown_path}: {len(unsettled)} open, {len(settled)} resolved by a reading"]
    for finding in unsettled:
        lines += [*finding_lines(finding), f"    write: {finding.instead}"]
    for finding in settled:
        lines += [*finding_lines(finding), f"    resolved: {finding.resolved}"]
    return "\n".join(lines)


def floor_text(sweep: Sweep, floors: Sequence[FloorError]) -> str:
    """Return how often each floor stops a run that ends at the goal; "" without floors."""
    if not floors:
        return ""
    goal = sweep.objective.goal
    aim = f" of {percent(goal)}" if goal is not None else ""
    lines = [f"How often a floor stops a run that ends at the goal{aim}:"]
    return "\n".join([*lines, *(f"  {floor.where}: {floor.sentence}" for floor in floors)])


def finding_lines(finding: LintFinding) -> list[str]:
    """Return a finding and why it matters."""
    mark = "RESOLVED" if finding.resolved is not None else finding.severity.upper()
    return [
        f"  {mark} {finding.id} ({finding.where}): {finding.message}",
        f"    why it matters: {finding.why}",
    ]


def replay_text(sweep: Sweep, log: str, result: Replay, notes: Sequence[str]) -> str:
    """Return the verdicts by epoch, and what the rules would have saved."""
    return "\n".join(
        [
            f"{log}, by the rules of {sweep.name}",
            *(f"  ({note})" for note in notes),
            *(f"  {_verdict(verdict)}" for verdict in result.verdicts),
            f"  {_summary(sweep, result)}",
        ]
    )


def _verdict(verdict: Verdict) -> str:
    error = "" if verdict.std_error is None else f"± {100 * verdict.std_error:.2f}"
    return (
        f"{verdict.epoch:>4}  {percent(verdict.top1):>9} {error:<6}  "
        f"{verdict.kind.value:<5}  {verdict.reason}"
    )


def _summary(sweep: Sweep, result: Replay) -> str:
    if result.stopped_epoch is None:
        logged = all_of(result.epochs_logged, "epoch", "epochs").lower()
        return f"Not stopped: {logged} would have run."
    saved = f"{result.epochs_saved} of {result.epochs_logged} epochs saved"
    if result.gpu_hours_saved is not None:
        saved += f", {result.gpu_hours_saved:g} GPU hours"
    if result.stopped_by == Cause.PATIENCE:
        then = "The run is complete, which ends the ladder."
    elif result.next is not None:
        plan = sweep.variants[result.next].plan
        then = f"Next: {result.next}" + (f" (plan {plan})." if plan else ".")
    else:
        then = "The ladder names nothing that follows."
    return f"Stopped at epoch {result.stopped_epoch} by {result.stopped_by}: {saved}. {then}"
