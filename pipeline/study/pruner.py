"""Halving as an Optuna pruner, for studies that are not ours: the same rule, by ask and report.

    study = optuna.create_study(direction="maximize", pruner=HalvingPruner(epochs=30))

Report each epoch's value as `trial.report(value, epoch)`, epochs from 1, and never a value from
before training. The ladder has no pruner: Optuna knows no pause.
"""

import math
from collections.abc import Mapping
from typing import Any

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from pipeline.plan.judge import patience_counts
from pipeline.plan.search.rules import CHECKS_AT, KEEP, AsyncHalving, Rung
from pipeline.plan.sweep import Patience
from pipeline.plan.verdict import VerdictKind


class HalvingPruner(BasePruner):
    """Prune at ceil(T/8), ceil(T/4), ceil(T/2) what is not in the better half so far.

    A value that is not finite prunes at once. All trials that got to a check are compared with,
    whatever became of them; so a check is decided once, in the order of arrival.

    Args:
        epochs: T, the last step of a full trial.
        at: the checks, as shares of `epochs`.
        keep: the share that goes on.
        patience: stop what has not become better for so long; Optuna has no state for "ended
            early but kept", so the caller tells such a trial complete (see `converged`).
    """

    def __init__(
        self,
        epochs: int,
        at: tuple[float, ...] = CHECKS_AT,
        keep: float = KEEP,
        patience: Patience | None = None,
    ) -> None:
        self.rule = AsyncHalving(epochs, at=at, keep=keep)
        self.patience = patience

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None:
            return False
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        if not math.isfinite(trial.intermediate_values[step]):
            return True
        if step in self.rule.checks and self._decides_against(study, trial, step, sign):
            return True
        return self.converged(trial, sign)

    def converged(self, trial: FrozenTrial, sign: float = 1.0) -> bool:
        """Whether patience has run out: the trial may stop and keeps its value."""
        if self.patience is None:
            return False
        values = [sign * v for _, v in sorted(trial.intermediate_values.items())]
        *_, count = patience_counts(values, self.patience.min_delta)
        return count.waited >= self.patience.epochs

    def _decides_against(self, study: Study, trial: FrozenTrial, step: int, sign: float) -> bool:
        bests = {}
        for other in study.get_trials(deepcopy=False):
            best = _best_until(other.intermediate_values, step, sign)
            if best is not None:
                bests[other.number] = best
        return self.rule.decide(step, trial.number, Rung(bests)).kind is VerdictKind.PRUNE


def _best_until(values: Mapping[int, Any], step: int, sign: float) -> float | None:
    """Return the best value up to a step that was reached, None if it was not."""
    if max(values, default=0) < step or not math.isfinite(values.get(step, 0.0)):
        return None
    finite = [sign * v for s, v in values.items() if s <= step and math.isfinite(v)]
    return max(finite, default=None)
