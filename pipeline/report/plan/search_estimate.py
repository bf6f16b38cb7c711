"""What a search will do and may cost: `pcan sweep plan --search`, as record and text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.plan.recipe import recipe_values
from pipeline.plan.search.cost_estimate import (
    ENOUGH,
    Estimate,
    MeasuredCurve,
    curves_for,
    estimate,
)
from pipeline.plan.search.rules import NoRule, make_rule
from pipeline.plan.search.space import LR, rates_of
from pipeline.plan.sweep import Space, Sweep, Variant
from pipeline.shared.counted import counted
from pipeline.shared.states import State
from pipeline.study.db.storage import Storage
from pipeline.study.searches import as_first_begun
from pipeline.study.trial_curves import read_curves
from pipeline.study.trial_rows import TrialRow, epoch_hours, study_name

#: Trials where neither the command nor the file names a number.
USUAL_TRIALS = 20


def search_record(
    sweep: Sweep,
    variant: str,
    facts: Mapping[str, Any],
    storage: Storage,
    rows: Sequence[TrialRow],
    trials: int | None,
) -> dict[str, Any]:
    """Return what is searched, what stops a trial, and the cost by rule.

    Args:
        facts: of the variant's resolved config; epochs, lr and schedulers are used.
        trials: None: as the file says.
    """
    search, chosen = as_first_begun(sweep.search, rows, variant), sweep.variants[variant]
    epochs, count = int(facts.get("max_epochs") or 0), trials or search.trials or USUAL_TRIALS
    curves, measured = curves_for(_measured(sweep, storage, rows), epochs)
    hours, timed = epoch_hours(sweep, rows)
    whole = None if hours is None else hours * epochs * count
    estimates = estimate(search, curves, count, chosen.patience)
    return {
        "variant": variant,
        "rule": search.rule,
        "read": search.read,
        "trials": count,
        "epochs": epochs,
        "checks": list(make_rule(search, epochs).checks),
        "curves": {"measured": measured, "count": len(curves), "averaged": _averaged(curves)},
        "epoch_gpu_hours": hours,
        "epoch_measured": timed,
        "space": _spaces(chosen),
        "moves_with_lr": _moves(sweep, variant, facts),
        "rules": [_rule_record(one, whole, measured) for one in estimates],
    }


def _rule_record(one: Estimate, hours: float | None, measured: bool) -> dict[str, Any]:
    """Return one rule's figures; what it loses is known from measured curves only.

    Args:
        hours: GPU hours of training everything.
    """
    stops, bar = one.rule != NoRule.name, one.whole
    return {
        "rule": one.rule,
        "share": list(one.share),
        "gpu_hours": None if hours is None else [share * hours for share in one.share],
        "loss": one.loss if measured else None,
        "miss": one.miss if measured else None,
        "whole": {
            "trials": bar.trials,
            "loss": bar.loss if measured else None,
            "miss": bar.miss if measured else None,
        },
        "beats_whole": bar.beaten if measured and stops else None,
    }


def _averaged(curves: Sequence[MeasuredCurve]) -> int:
    return sum(bool(curve.averaged) for curve in curves)


def _measured(sweep: Sweep, storage: Storage, rows: Sequence[TrialRow]) -> list[MeasuredCurve]:
    """Return the curves of this sweep's complete trials, makers of weights left out."""
    if not rows:
        return []
    complete = [r for r in rows if r.state == State.COMPLETE and r.variant not in sweep.makers]
    by_study = {
        variant: read_curves(study_name(sweep, variant), storage)
        for variant in dict.fromkeys(row.variant for row in complete)
    }
    curves = ((row, by_study[row.variant].get(row.trial_id, {})) for row in complete)
    return [
        MeasuredCurve([curve[epoch] for epoch in range(1, len(curve) + 1)], row.averaged)
        for row, curve in curves
        if sorted(curve) == list(range(1, len(curve) + 1)) and curve
    ]


def _spaces(variant: Variant) -> list[dict[str, Any]]:
    """Return what is searched, each with the recipe's own value."""
    values = recipe_values(variant)
    return [
        {"path": path, "recipe": values.get(path), **_space(space)}
        for path, space in variant.space.items()
    ]


def _space(space: Space) -> dict[str, Any]:
    fields = space.model_dump()
    return {key: value for key, value in fields.items() if value not in (None, (), {}, False)}


def _moves(sweep: Sweep, variant: str, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rates that move with a searched lr, each with its fixed share of it."""
    space, lr = sweep.variants[variant].space, facts.get("lr")
    if not sweep.search.couple or LR not in space or not isinstance(lr, int | float) or not lr:
        return []
    rates = rates_of(facts.get("param_scheduler"))
    return [
        {"path": path, "ratio": value / lr} for path, value in rates.items() if path not in space
    ]


def search_text(record: Mapping[str, Any]) -> str:
    """Return the record as lines and a table."""
    return "\n".join(_lines(record))


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Search around {record['variant']}: "
        f"{counted(record['trials'], 'trial')} of {record['epochs']} "
        f"epochs, rule {record['rule']}{_checks(record['checks'], record['read'])}"
    )
    for one in record["space"]:
        yield f"  {one['path']}: {_range(one)}"
    for one in record["moves_with_lr"]:
        yield f"  {one['path']}: moves with lr, {one['ratio']:.3g} of it"
    yield ""
    yield f"{'rule':10s}{'share of all epochs':>24s}{'GPU hours':>22s}{'loses 0.5 points in':>22s}"
    for one in record["rules"]:
        yield _rule_line(one, chosen=one["rule"] == record["rule"])
    yield ""
    yield from _bar(record)
    yield ""
    yield _source(record)


def _checks(checks: Sequence[int], read: str) -> str:
    if not checks:
        return ""
    what = "averaged weights or best so far" if read == "averaged" else "best so far"
    return f" (checked after epoch {', '.join(map(str, checks))}: {what})"


def _bar(record: Mapping[str, Any]) -> Iterator[str]:
    """Say beside each rule what as many epochs would give without it."""
    rules = [one for one in record["rules"] if one["rule"] != NoRule.name]
    for one in rules:
        count = f"{one['whole']['trials']:.1f} trials run whole at the same cost"
        if one["loss"] is None:
            yield f"  {one['rule']}: {count}"
        else:
            lost = f"loses {100 * one['loss']:.2f} points, {count} lose "
            yield f"  {one['rule']}: {lost}{100 * one['whole']['loss']:.2f}"
    if not record["curves"]["measured"]:
        yield "Whether a rule beats trials run whole is not known without complete curves."
        return
    better = [one["rule"] for one in rules if one["beats_whole"]]
    if better:
        verb = "beats" if len(better) == 1 else "beat"
        rest = "".join(f"; {one['rule']} does not" for one in rules if not one["beats_whole"])
        yield f"{' and '.join(better)} {verb} trials run whole here{rest}."
    else:
        yield (
            "No rule beats trials run whole here, as in a narrow space, with few trials, or where "
            "curves gain late. Search with rule: none and as many trials as your hours pay for."
        )


def _range(one: Mapping[str, Any]) -> str:
    if "choices" in one:
        text = " or ".join(map(str, one["choices"]))
    else:
        text = f"{one['low']:g} to {one['high']:g}{', logarithmic' if one.get('log') else ''}"
        text += f", in steps of {one['step']:g}" if one.get("step") else ""
    if one["recipe"] is not None:
        text += f"; the recipe has {one['recipe']}"
    for path, allowed in one.get("when", {}).items():
        text += f"; only with {path} = {' or '.join(map(str, allowed))}"
    return text


def _rule_line(one: Mapping[str, Any], chosen: bool) -> str:
    low, mean, high = (f"{100 * share:.0f}" for share in one["share"])
    hours = "-"
    if one["gpu_hours"] is not None:
        hours = "{1} ({0} to {2})".format(*map(_shown, one["gpu_hours"]))
    miss = f"{100 * one['miss']:.0f} % of sweeps" if one["miss"] is not None else "-"
    share = f"{mean} % ({low} to {high})"
    return f"{one['rule'] + (' *' if chosen else ''):10s}{share:>24s}{hours:>22s}{miss:>22s}"


def _shown(hours: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(hours))) if 0 < hours < 10 else 0
    return f"{hours:.{min(digits, 3)}f}"


def _readings(record: Mapping[str, Any]) -> str:
    """Say how many curves have averaged weights, where the rule reads them."""
    have, count = record["curves"]["averaged"], record["curves"]["count"]
    if record["read"] != "averaged" or have == count:
        return ""
    some = f"{have} of them have" if have else "none of them has"
    return f" ({some} values of averaged weights; else the best so far counts)"


def _source(record: Mapping[str, Any]) -> str:
    curves = record["curves"]
    if curves["measured"]:
        source = f"from {curves['count']} complete curves of this storage{_readings(record)}"
    else:
        source = (
            f"from made-up reference shapes, since this storage has fewer than {ENOUGH} complete "
            f"curves of {record['epochs']} epochs; what a rule loses is not estimated from those"
        )
    hours = {
        (True, True): " An epoch costs what it did so far in this sweep.",
        (True, False): " An epoch costs what job.epoch_minutes says.",
    }.get(
        (record["epoch_gpu_hours"] is not None, record["epoch_measured"]),
        " For GPU hours set job.epoch_minutes, or run a recipe first.",
    )
    return f"Mean of simulated sweeps, and what eight of ten lie between, {source}.{hours}"
