"""The view of a plan as text: the ladder as a tree, changes, lr beside the table, bands, lint."""

from collections.abc import Iterator
from typing import Any

from pipeline.plan.cost import gpu_hours
from pipeline.plan.course import expected
from pipeline.plan.sweep import LadderRule, Variant
from pipeline.plan.verdict import percent
from pipeline.report.plan.gates_text import lint_text
from pipeline.report.plan.plan_record import PlanView, VariantView

#: Epochs of a long course that are worth a line when the plan names none itself.
_SHOWN_EPOCHS = 8


def plan_text(view: PlanView) -> str:
    """Return the whole preview."""
    parts = [
        _head(view),
        "\n".join(_ladder(view)),
        *("\n".join(_variant(view, v)) for v in view.variants),
        lint_text(view.sweep, view.lint),
        "\n".join(f"Not shown: {problem}" for problem in view.problems),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(view: PlanView) -> str:
    sweep, lines = view.sweep, []
    goal = f", goal {percent(sweep.objective.goal)}" if sweep.objective.goal is not None else ""
    known = sweep.objective.best_known
    start = f", best known {percent(known)}" if known is not None else ""
    lines.append(f"{sweep.name} ({sweep.shown_path}): {sweep.objective.metric}{goal}{start}")
    if view.worst_epochs is not None:
        lines.append(
            f"At worst {view.worst_epochs} epochs by the ladder"
            + _hours(view.worst_gpu_hours, view.sweep.job.gpus)
        )
    return "\n".join(lines)


def _ladder(view: PlanView) -> Iterator[str]:
    """Draw the way down: the start, and below each condition what is tried, in order."""
    yield f"{_named(view.first)}"
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
    return f" (stopped after {rule.epoch} epochs{_hours(gpu_hours(view.sweep, rule.epoch), 0)})"


def _named(view: VariantView) -> str:
    plan = f" (plan {view.variant.plan})" if view.variant.plan else ""
    epochs = f", {view.epochs} epochs" if view.epochs else ""
    return f"{view.variant.name}{plan}{epochs}{_hours(view.gpu_hours, 0)}"


def _hours(hours: float | None, gpus: int) -> str:
    if hours is None:
        return ""
    wall = f", {hours / gpus:g} h on {gpus} GPUs" if gpus else ""
    return f", {hours:g} GPU hours{wall}"


def _variant(view: PlanView, found: VariantView) -> Iterator[str]:
    variant = found.variant
    against = found.compared_with or "the base config"
    yield f"{_named(found)}"
    if found.changes is None:
        yield "  set, not resolved: " + ", ".join(f"{k} = {v}" for k, v in variant.set.items())
    elif not found.changes:
        yield f"  the same config as {against}"
    else:
        yield f"  differs from {against} in:"
        yield from (f"    {c.path}: {_short(c.old)} -> {_short(c.new)}" for c in found.changes)
    yield f"  starts from: {_start(variant)}"
    yield from (f"  gate, {gate.describe()}" for gate in variant.gates)
    if variant.patience is not None:
        patience = variant.patience
        yield f"  patience: {patience.epochs} epochs, min_delta {patience.min_delta:g}"
    yield from _course(found)


def _start(variant: Variant) -> str:
    start = variant.warm_start
    if start is None:
        return "random weights (or what the base config loads)"
    expect = f", validated {percent(start.expect)}" if start.expect is not None else ""
    return f"{start.checkpoint}{expect}"


def _course(found: VariantView) -> Iterator[str]:
    """Show the true lr, beside the plan's table where there is one, and the band."""
    if not found.lr:
        return
    bands = {band.epoch: band for band in found.variant.bands}
    different = {difference.epoch for difference in found.table}
    beside = found.compared_with is None
    yield f"  epoch  lr (true)   {'lr (table)  ' if beside else ''}expected top-1"
    for epoch in sorted(bands) or _some(len(found.lr)):
        if epoch > len(found.lr):
            continue
        band = bands.get(epoch)
        table = f"{band.lr:.3g}" if band and band.lr is not None else ""
        table = f"{table:<8}{' *' if epoch in different else '  '}  " if beside else ""
        low_high = expected(found.variant.bands, epoch)
        course = f"{percent(low_high[0])}-{percent(low_high[1])}" if low_high else ""
        line = f"  {epoch:>5}  {found.lr[epoch - 1]:<10.3g}  {table}{course}"
        yield line.rstrip()
    if different:
        yield "  * the table is rounded by hand; a run is held against the true lr"


def _some(epochs: int) -> list[int]:
    step = max(1, round(epochs / _SHOWN_EPOCHS))
    return sorted({1, *range(step, epochs + 1, step), epochs})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
