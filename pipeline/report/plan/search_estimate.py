"""What a search will do and may cost: `pcan sweep plan --search`, as record and text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.plan.recipe import recipe_values
from pipeline.plan.search.cost_estimate import ENOUGH, Estimate, curves_for, estimate
from pipeline.plan.search.rules import make_rule
from pipeline.plan.search.space import LR, rates_of
from pipeline.plan.sweep import Space, Sweep
from pipeline.shared.states import State
from pipeline.study.db.storage import Storage
from pipeline.study.gpu_hours import epoch_hours
from pipeline.study.rungs import read_curves
from pipeline.study.trial_rows import TrialRow, study_name

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
    search, chosen = sweep.search, sweep.variants[variant]
    epochs, count = int(facts.get("max_epochs") or 0), trials or search.trials or USUAL_TRIALS
    curves, measured = curves_for(_measured(sweep, storage, rows), epochs)
    hours, timed = epoch_hours(sweep, rows)
    whole = None if hours is None else hours * epochs * count
    estimates = estimate(search, curves, count, chosen.patience)
    return {
        "variant": variant,
        "rule": search.rule,
        "trials": count,
        "epochs": epochs,
        "checks": list(make_rule(search, epochs).checks),
        "curves": {"measured": measured, "count": len(curves)},
        "epoch_gpu_hours": hours,
        "epoch_measured": timed,
        "space": [
            {"path": path, "recipe": recipe_values(chosen).get(path), **_space(space)}
            for path, space in chosen.space.items()
        ],
        "moves_with_lr": _moves(sweep, variant, facts),
        "rules": [_rule(one, whole, measured) for one in estimates],
    }


def _rule(one: Estimate, whole: float | None, measured: bool) -> dict[str, Any]:
    """Return what a rule may cost; how often it misses is known from measured curves only."""
    return {
        "rule": one.rule,
        "share": list(one.share),
        "gpu_hours": None if whole is None else [share * whole for share in one.share],
        "miss": one.miss if measured else None,
    }


def _measured(sweep: Sweep, storage: Storage, rows: Sequence[TrialRow]) -> list[list[float]]:
    """Return the values of this sweep's complete trials, makers of weights left out."""
    if not rows:
        return []
    complete = [r for r in rows if r.state == State.COMPLETE and r.variant not in sweep.makers]
    by_study = {
        variant: read_curves(study_name(sweep, variant), storage)
        for variant in dict.fromkeys(row.variant for row in complete)
    }
    curves = (by_study[row.variant].get(row.trial_id, {}) for row in complete)
    return [
        [curve[epoch] for epoch in range(1, len(curve) + 1)]
        for curve in curves
        if sorted(curve) == list(range(1, len(curve) + 1)) and curve
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
        f"Search around {record['variant']}: {record['trials']} trials of {record['epochs']} "
        f"epochs, rule {record['rule']}{_checks(record['checks'])}"
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
    yield _source(record)


def _checks(checks: Sequence[int]) -> str:
    return f" (checked after epoch {', '.join(map(str, checks))})" if checks else ""


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


def _source(record: Mapping[str, Any]) -> str:
    curves = record["curves"]
    if curves["measured"]:
        source = f"from {curves['count']} complete curves of this storage"
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
