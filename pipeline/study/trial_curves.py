"""The values of trials by epoch, read without Optuna: two queries a study.

For a search's stopping rule every trial with values counts: those of the search, the plan's
recipes, and imported runs; not the repetitions of a good one on other seeds, which would raise the
cut. Only those of the search can still reach a later check. For the floors of gates only runs
count that went to their end.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from pipeline.plan.lint.floor_error import FinishedRun
from pipeline.plan.search.rules import AsyncHalving, Reachability, RungReading, TrialProgress
from pipeline.plan.sweep import Sweep
from pipeline.shared.states import Kind, State
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import by_epoch_number, kind_of, read_board, study_name

_TRIALS = """
SELECT t.trial_id, t.number, CAST(t.state AS VARCHAR(20)) AS state, p.facts, p.recipe_hash,
    p.averaged
FROM trials AS t JOIN studies AS s ON s.study_id = t.study_id
LEFT JOIN pcan_trials AS p ON p.trial_id = t.trial_id
WHERE s.study_name = :study ORDER BY t.number
"""
_VALUES = """
SELECT v.trial_id, v.step, v.intermediate_value AS value,
    CAST(v.intermediate_value_type AS VARCHAR(20)) AS kind
FROM trial_intermediate_values AS v
JOIN trials AS t ON t.trial_id = v.trial_id JOIN studies AS s ON s.study_id = t.study_id
WHERE s.study_name = :study ORDER BY v.trial_id, v.step
"""


def read_standings(
    sweep: Sweep, variant: str, rule: AsyncHalving, storage: Storage
) -> list[TrialProgress]:
    """Return how far each trial of a variant's study has got.

    Raises:
        StorageError: the storage cannot be read.
    """
    study = study_name(sweep, variant)
    curves = read_curves(study, storage)
    rows = storage.read(_TRIALS, study=study)
    return [
        _standing(row, curves.get(row["trial_id"], {}), rule)
        for row in rows
        if _kind(row) is not Kind.REPEAT
    ]


def read_curves(study: str, storage: Storage) -> dict[int, dict[int, float]]:
    """Return the values of each trial of a study, by trial id and epoch."""
    curves: dict[int, dict[int, float]] = {}
    for row in storage.read(_VALUES, study=study):
        value = float(row["value"]) if row["kind"] == "FINITE" else math.nan
        curves.setdefault(row["trial_id"], {})[int(row["step"])] = value
    return curves


def _kind(row: Mapping[str, Any]) -> Kind:
    facts = json.loads(row["facts"]) if isinstance(row["facts"], str) else row["facts"]
    return kind_of(facts, row["recipe_hash"])


def _standing(
    row: Mapping[str, Any], curve: Mapping[int, float], rule: AsyncHalving
) -> TrialProgress:
    return TrialProgress(
        number=int(row["number"]),
        epoch=max(curve, default=0),
        readings=_readings(curve, by_epoch_number(row["averaged"]), rule),
        reachability=_reachability(State(row["state"]), _kind(row)),
    )


def _readings(
    curve: Mapping[int, float], averaged: Mapping[int, float], rule: AsyncHalving
) -> dict[int, float]:
    """Return what the rule reads at each check that was reached with a finite value."""
    last, readings = max(curve, default=0), {}
    for check in rule.checks:
        values = [v for e, v in curve.items() if e <= check and math.isfinite(v)]
        if last >= check and values and math.isfinite(curve.get(check, 0.0)):
            own = averaged.get(check) if rule.reads(check) else None
            readings[check] = RungReading.of(max(values), own).value
    return readings


def _reachability(state: State, kind: Kind) -> Reachability:
    if kind is not Kind.SEARCH or state is State.PRUNED:
        return Reachability.OUT
    return Reachability.ENDED if state.finished else Reachability.OPEN


def finished_runs(sweep: Sweep, storage: Storage) -> list[FinishedRun]:
    """Return the complete runs of a sweep but for the makers of starting weights.

    A run that a gate stopped has no end to be compared with, so it is not among them.

    Raises:
        StorageError: the storage cannot be read.
    """
    rows = read_board(sweep.name, storage)
    complete = [r for r in rows if r.state == State.COMPLETE and r.variant not in sweep.makers]
    studies = dict.fromkeys(study_name(sweep, row.variant) for row in complete)
    curves = {k: v for study in studies for k, v in read_curves(study, storage).items()}
    runs = []
    for row in complete:
        curve = curves.get(row.trial_id, {})
        values = {epoch: v for epoch, v in curve.items() if epoch > 0 and math.isfinite(v)}
        if values:
            runs.append(FinishedRun(variant=row.variant, values=values))
    return runs
