"""What a search may cost before it starts: its rule on earlier curves, sweep after sweep.

What every rule has to beat is as many epochs spent on fewer trials, each run whole. A rule that
ends with a worse trial than those, on average, saves nothing. In a narrow space, or with few
trials, that is so more often than one would think.

Where too few curves were measured, made-up reference curves stand in. Each rises towards its own
end at its own speed, so that curves cross; the late ones gain with a falling rate, a few never
learn, a few diverge. How they compare with real ones: docs/search.md.
"""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence

from pipeline.plan.search.rules import RULES, make_rule
from pipeline.plan.search.simulate import MISS, LearningCurve, SimulatedSweep, simulate
from pipeline.plan.sweep import Patience, Search

#: Fewer complete curves than this show too little; the reference shapes stand in.
ENOUGH = 8
SHAPES = 200
SWEEPS = 200
#: Ends of the good reference runs, how their speeds differ, and the noise of one reading.
TOP, SPREAD, SPEED, NOISE = 0.90, 0.05, (0.04, 0.25), 0.003
#: The shares of them that never learn, and that diverge.
WEAK, DIVERGED = 0.25, 0.05


@dataclasses.dataclass(frozen=True)
class MeasuredCurve:
    """A complete run: its values by epoch, as fractions, and what was read of its averages."""

    values: Sequence[float]
    averaged: Mapping[int, float] = dataclasses.field(default_factory=dict)


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one rule costs and loses.

    Args:
        share: of the epochs of training everything: lowest tenth, mean, highest tenth.
        loss: mean of how far a sweep ends below its best curve, a fraction.
        miss: share of the sweeps that end more than half a point below it.
        whole: trials run whole at the same cost.
    """

    rule: str
    share: tuple[float, float, float]
    loss: float
    miss: float
    whole: WholeTrials


def estimate(
    search: Search,
    curves: Sequence[MeasuredCurve],
    trials: int,
    patience: Patience | None,
    seed: int = 0,
) -> list[Estimate]:
    """Return each rule's cost, the file's own settings for checks and shares.

    Args:
        curves: complete ones; drawn again where there are fewer than trials.
    """
    ended = [
        LearningCurve.of(curve.values, patience=patience, averaged=curve.averaged)
        for curve in curves
    ]
    draws = [_draw(ended, trials, random.Random(f"{seed}/{i}")) for i in range(SWEEPS)]
    found = []
    for name in RULES:
        rule = make_rule(search.model_copy(update={"rule": name}), ended[0].epochs)
        found.append(_summed(name, draws, [simulate(picked, rule) for picked in draws]))
    return found


def curves_for(measured: Sequence[MeasuredCurve], epochs: int) -> tuple[list[MeasuredCurve], bool]:
    """Return the curves to estimate from, and whether they were measured."""
    whole = [curve for curve in measured if len(curve.values) == epochs]
    if len(whole) >= ENOUGH:
        return whole, True
    return [MeasuredCurve(curve) for curve in reference_curves(SHAPES, epochs)], False


def _draw(curves: Sequence[LearningCurve], trials: int, rng: random.Random) -> list[LearningCurve]:
    if trials <= len(curves):
        return rng.sample(curves, trials)
    return rng.choices(curves, k=trials)


def _summed(
    rule: str, draws: Sequence[Sequence[LearningCurve]], found: Sequence[SimulatedSweep]
) -> Estimate:
    costs = sorted(one.cost for one in found)
    tenth = len(costs) // 10
    return Estimate(
        rule=rule,
        share=(costs[tenth], sum(costs) / len(costs), costs[-1 - tenth]),
        loss=sum(one.regret for one in found) / len(found),
        miss=sum(one.missed for one in found) / len(found),
        whole=at_same_cost(draws, found),
    )


def reference_curves(count: int, epochs: int, seed: int = 0) -> list[list[float]]:
    """Return made-up curves, as fractions; NaN where a run has diverged."""
    rng = random.Random(f"shapes/{seed}")
    return [_curve(rng, epochs) for _ in range(count)]


def _curve(rng: random.Random, epochs: int) -> list[float]:
    end = TOP - abs(rng.gauss(0, SPREAD))
    if rng.random() < WEAK:
        end *= rng.uniform(0.3, 0.9)
    start = end * rng.uniform(0.2, 0.7)
    speed = math.exp(rng.uniform(*map(math.log, SPEED))) * epochs
    broken = rng.randint(1, epochs) if rng.random() < DIVERGED else epochs + 1
    return [
        math.nan if epoch >= broken else _value(rng, start, end, epoch, speed)
        for epoch in range(1, epochs + 1)
    ]


def _value(rng: random.Random, start: float, end: float, epoch: int, speed: float) -> float:
    value = end - (end - start) * math.exp(-epoch / speed) + rng.gauss(0, NOISE)
    return min(1.0, max(0.0, value))


def at_same_cost(
    draws: Sequence[Sequence[LearningCurve]], found: Sequence[SimulatedSweep]
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
