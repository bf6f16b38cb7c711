"""How sure an order of trials is, from their repetitions on new seeds.

The values of a trial over seeds are taken as normal around its own mean, with one spread common
to all trials: two seeds each say too little on a spread of their own. With flat priors on the
means and 1/variance on the spread, the means lie spread as Student's t about what was measured,
with as many degrees of freedom as there are values beyond one a trial. For two trials that gives
the chance exactly (one minus the p of the one-sided t test); for more it is drawn, always alike.
"""

import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

DRAWS = 100_000


def pooled_spread(groups: Sequence[Sequence[float]], step: float = 0.0) -> tuple[float, int]:
    """Return the common standard deviation of groups of values, and its degrees of freedom.

    Args:
        step: the least by which two readings can differ (one clip); readings that happen to be
            equal do not make the spread vanish.
    """
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        return math.nan, 0
    squares = sum((x - statistics.fmean(group)) ** 2 for group in groups for x in group)
    return max(math.sqrt(squares / freedom), step / math.sqrt(12)), freedom


def chance_above(
    first: Sequence[float], second: Sequence[float], spread: float, freedom: int
) -> float | None:
    """Return the chance that the first trial's mean over all seeds is above the second's.

    None where nothing is known of the spread.
    """
    off = statistics.fmean(first) - statistics.fmean(second)
    scale = spread * math.sqrt(1 / len(first) + 1 / len(second))
    if freedom < 1:
        return None
    if scale == 0:
        return 0.5 if off == 0 else float(off > 0)
    return t_cdf(off / scale, freedom)


def chances(groups: Sequence[Sequence[float]], step: float = 0.0) -> dict[str, float | None]:
    """Return the chances that the first group's mean is the highest, and that all are in order.

    Args:
        groups: values of each trial, in the order that is in question.
    """
    spread, freedom = pooled_spread(groups, step)
    if len(groups) < 2 or freedom < 1:
        return {"best": None, "order": None}
    if len(groups) == 2 or spread == 0:
        pairs = [chance_above(a, b, spread, freedom) for a, b in _next_pairs(groups)]
        told = [one for one in pairs if one is not None]
        return {"best": told[0], "order": math.prod(told)}
    best = order = 0
    draw = random.Random(0)
    centres = [(statistics.fmean(group), 1 / math.sqrt(len(group))) for group in groups]
    for _ in range(DRAWS):
        sigma = spread * math.sqrt(freedom / draw.gammavariate(freedom / 2, 2))
        means = [draw.gauss(mean, sigma * width) for mean, width in centres]
        best += means[0] == max(means)
        order += all(a > b for a, b in _next_pairs(means))
    return {"best": best / DRAWS, "order": order / DRAWS}


def _next_pairs(items: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items, items[1:], strict=False))


def t_cdf(t: float, freedom: int) -> float:
    """Return how much of Student's t distribution lies below `t`."""
    tail = _beta_share(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return 1 - tail if t > 0 else tail


def _beta_share(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b).

    Source: its continued fraction, by Lentz's method (Numerical Recipes, 6.4).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(b, a, 1 - x)
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logs + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / (1 + even * d), 1 + even / c
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / (1 + odd * d), 1 + odd / c
        value *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return front * value
