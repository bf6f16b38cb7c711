"""What every stopping rule has to beat: as many epochs spent on fewer trials, each run whole.

A rule that ends with a worse trial than those, on average, saves nothing. In a narrow space, or
with few trials, that is so more often than one would think.
"""

import dataclasses
import math
from collections.abc import Sequence

from pipeline.plan.search.simulate import MISS, LearningCurve, Simulated


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeTrials:
    """The first trials of each sweep, run whole at the cost of a rule.

    Args:
        trials: how many that cost pays for on average, at least one.
        loss: mean of how far they end below the sweep's best curve, a fraction.
        miss: share of the sweeps in which that is more than half a point.
        gain: mean of what the rule loses less than they, a fraction.
        error: standard error of `gain` over the sweeps.
    """

    trials: float
    loss: float
    miss: float
    gain: float
    error: float

    @property
    def beaten(self) -> bool:
        """Whether the rule loses less than they, by more than chance over the sweeps."""
        return self.gain > 2 * self.error


def at_same_cost(
    draws: Sequence[Sequence[LearningCurve]], found: Sequence[Simulated]
) -> WholeTrials:
    """Return the trials run whole that cost as much as a rule does on average.

    Args:
        draws: the curves of each sweep, in the order they are begun.
        found: what the rule made of each.
    """
    most = len(draws[0])
    costs = [_mean([_cost(curves, count) for curves in draws]) for count in range(1, most + 1)]
    count, rest = _count_for(costs, _mean([one.cost for one in found]))
    lower = [_loss(curves, count) for curves in draws]
    upper = [_loss(curves, min(count + 1, most)) for curves in draws]
    losses = [a + rest * (b - a) for a, b in zip(lower, upper, strict=True)]
    misses = [
        (1 - rest) * (a > MISS) + rest * (b > MISS) for a, b in zip(lower, upper, strict=True)
    ]
    gains = [loss - one.regret for loss, one in zip(losses, found, strict=True)]
    gain = _mean(gains)
    spread = math.sqrt(sum((g - gain) ** 2 for g in gains) / max(1, len(gains) - 1))
    return WholeTrials(
        trials=count + rest,
        loss=_mean(losses),
        miss=_mean(misses),
        gain=gain,
        error=spread / math.sqrt(len(gains)),
    )


def _count_for(costs: Sequence[float], cost: float) -> tuple[int, float]:
    """Return how many whole trials a cost pays for, and the share of the next that is left."""
    count = sum(one <= cost + 1e-12 for one in costs)
    if count == 0:
        return 1, 0.0
    if count == len(costs):
        return count, 0.0
    below = costs[count - 1]
    return count, (cost - below) / (costs[count] - below)


def _cost(curves: Sequence[LearningCurve], count: int) -> float:
    return sum(c.end for c in curves[:count]) / sum(c.epochs for c in curves)


def _loss(curves: Sequence[LearningCurve], count: int) -> float:
    """Return how far the best of the first trials ends below the best curve of all."""
    target = max(c.bests[-1] for c in curves if math.isfinite(c.bests[-1]))
    kept = [c.result for c in curves[:count] if math.isfinite(c.result)]
    seen = [c.bests[c.end - 1] for c in curves[:count] if math.isfinite(c.bests[c.end - 1])]
    return max(0.0, target - max(kept or seen, default=0.0))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
