"""A plan on one screen: ladder, variants, gates, open findings; where the rest is said."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from pipeline.plan.recipe import Difference
from pipeline.plan.sweep import Sweep
from pipeline.report.plan.plan_record import PlanView, VariantView
from pipeline.report.plan.text import finding_lines, head_text, problems_text, variant_text
from pipeline.shared.counted import counted

#: The longest text of what a variant changes.
CHANGES = 72
#: Open findings that are shown; the others are counted.
FINDINGS = 5


def plan_screen(view: PlanView) -> str:
    """Return the plan in as many lines as a terminal has."""
    parts = [
        head_text(view),
        "\n".join(_ladder(view)),
        "\n".join(_variants(view)),
        "\n".join(_gates(view)),
        "\n".join(_findings(view)),
        problems_text(view),
        f"Everything: pcan sweep plan {view.sweep.name} --full   "
        f"One variant: pcan sweep plan {view.sweep.name} {view.first.variant.name}",
    ]
    return "\n\n".join(part for part in parts if part)


def one_variant(view: PlanView, name: str) -> str:
    """Return one variant whole: changes, start, gates, rates, and the findings that name it."""
    shown = next(one for one in view.variants if one.variant.name == name)
    named = [f for f in view.lint if f.resolved is None and name in f"{f.message} {f.where}"]
    rules = [rule.condition() for rule in view.sweep.ladder.after if name in rule.next]
    follows = f"\n  follows in the ladder: {'; '.join(rules)}" if rules else ""
    findings = "".join(f"\n{line}" for one in named for line in finding_lines(one))
    return variant_text(shown) + follows + findings


def _ladder(view: PlanView) -> Iterator[str]:
    """Draw a line for each rule, with the variants that follow in their order."""
    yield view.first.variant.name
    rules = view.sweep.ladder.after
    for i, rule in enumerate(rules):
        branch = "└" if i == len(rules) - 1 else "├"
        yield f"{branch}─ {rule.condition()}: then {', else '.join(rule.next)}"
    for v in view.variants:
        if v.variant.starts_from is not None:
            yield f"Stage: {v.variant.name} starts from the best of {v.variant.starts_from}"
        if v.variant.config != view.sweep.config:
            metric = f", measured by {v.variant.metric}" if v.variant.metric else ""
            yield f"Config: {v.variant.name} has its own, {v.variant.config}{metric}"
    rest = [v.variant.name for v in view.variants if not v.variant.in_ladder]
    if rest:
        yield f"Not in the ladder: {', '.join(rest)}"


def _variants(view: PlanView) -> Iterator[str]:
    rows = [("variant", "plan", "epochs", "GPU hours", "lr first, last", "changes")]
    rows += [_row(one, view.first) for one in view.variants]
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    shown = [i for i, width in enumerate(widths) if any(row[i] for row in rows[1:]) and width]
    for row in rows:
        cells = [_placed(row[i], widths[i], right=i in (2, 3)) for i in shown]
        yield "  ".join([*cells, row[-1]]).rstrip()
    followed = {one.variant.name: one.follows for one in view.variants if one.follows}
    if followed:
        names, metrics = ", ".join(followed), ", ".join(dict.fromkeys(followed.values()))
        yield f"lr (most): of {names} the schedule follows {metrics}; it can only be lower"


def _placed(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _row(one: VariantView, first: VariantView) -> tuple[str, str, str, str, str, str]:
    rates = f"{one.lr[0]:.3g}, {one.lr[-1]:.3g}" if one.lr else ""
    return (
        one.variant.name,
        one.variant.plan or "",
        str(one.epochs or ""),
        "" if one.gpu_hours is None else f"{one.gpu_hours:g}",
        rates,
        "" if one is first else _changes(one.changes, one.variant.set),
    )


def _changes(changes: Sequence[Difference] | None, named: Mapping[str, Any]) -> str:
    """Return what a variant changes, each path by its last part, long values left out."""
    if changes is None:
        return ", ".join(named)
    parts = [f"{_short(c.path)} {_value(c.old)} -> {_value(c.new)}" for c in changes]
    text = "; ".join(part.replace("... -> ...", "another") for part in parts)
    return text if len(text) <= CHANGES else f"{text[: CHANGES - 3]}..."


def _short(path: str) -> str:
    words = path.split(".")
    return ".".join(words[-2:] if words[-1].isdigit() else words[-1:])


def _value(value: Any) -> str:
    return "..." if isinstance(value, list | tuple | dict) else str(value)


def _gates(view: PlanView) -> Iterator[str]:
    """Return the first variant's gates; those of others that differ are under `plan VARIANT`."""
    first = view.first.variant
    if first.gates:
        yield f"Gates of {first.name}"
    yield from (f"  {gate.describe()}" for gate in first.gates)
    if first.patience is not None:
        waits = counted(first.patience.epochs, "epoch")
        yield f"  patience: {waits}, min_delta {first.patience.min_delta:g}"
    other = [v.variant.name for v in view.variants if v.variant.gates != first.gates]
    if other and first.gates:
        yield f"  other gates or none: {', '.join(other)}"


def _findings(view: PlanView) -> Iterator[str]:
    unsettled = [finding for finding in view.lint if finding.resolved is None]
    settled = len(view.lint) - len(unsettled)
    yield f"Lint: {len(unsettled)} open, {settled} resolved by a reading"
    for finding in unsettled[:FINDINGS]:
        yield f"  {finding.severity.upper()} {finding.id} ({finding.where}): {finding.message}"
    if len(unsettled) > FINDINGS:
        yield f"  {len(unsettled) - FINDINGS} more: {_lint_command(view.sweep)}"


def _lint_command(sweep: Sweep) -> str:
    return f"pcan gates lint {sweep.name}"
