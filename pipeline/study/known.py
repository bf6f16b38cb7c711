"""Give a study what is known from other studies: finished runs as finished trials of its own.

They have no run directory and no row in our table, so nothing can ever run them. The sampler
learns from their values, the stopping rule compares with their curves.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.search.space import applicable, holds
from pipeline.plan.sweep import Sweep
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.storage import Storage
from pipeline.study.names import study_name
from pipeline.study.rungs import read_curves
from pipeline.study.sampler import distribution
from pipeline.study.trial_rows import TrialRow

#: User attribute of an imported trial: the trial that was really run.
ORIGIN = "imported_from"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorTrial:
    """A finished run of another study, with its values of the searched paths."""

    row: TrialRow
    values: Mapping[str, Any]


def outside_space(sweep: Sweep, variant: str, values: Mapping[str, Any]) -> str | None:
    """Say which value the variant's space does not hold, None if it holds them all."""
    for path, value in values.items():
        if not holds(sweep.variants[variant].space[path], value):
            return f"{path} = {value} is outside the searched range"
    return None


def import_known(
    sweep: Sweep, storage: Storage, variant: str, known: Sequence[PriorTrial]
) -> list[str]:
    """Add finished runs to a variant's study, each once.

    Returns:
        The names of those that were added now.
    """
    from optuna.trial import TrialState, create_trial

    rdb = storage.rdb
    added = []
    with storage.lock(), translate_errors(storage):
        study_id = rdb.get_study_id_from_name(study_name(sweep, variant))
        there = {t.user_attrs.get(ORIGIN) for t in rdb.get_all_trials(study_id, deepcopy=False)}
        for one in known:
            if one.row.name in there:
                continue
            curve = read_curves(study_name(sweep, one.row.variant), storage)
            values = applicable(sweep.variants[variant].space, one.values)
            state = TrialState[one.row.state]
            template = create_trial(
                state=state,
                value=one.row.best_top1 if state is TrialState.COMPLETE else None,
                params=values,
                distributions={p: distribution(sweep.variants[variant].space[p]) for p in values},
                user_attrs={ORIGIN: one.row.name},
                intermediate_values=_finite(curve.get(one.row.trial_id, {})),
            )
            rdb.create_new_trial(study_id, template)
            added.append(one.row.name)
    return added


def _finite(curve: Mapping[int, float]) -> dict[int, float]:
    return {epoch: value for epoch, value in curve.items() if math.isfinite(value)}
