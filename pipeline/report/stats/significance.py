"""Is a difference real, is an order right: the statistics, as pure functions of numbers.

Two trials on the same clips: McNemar's test, and Holm's correction for many pairs. Only the clips
on which exactly one of two models is right distinguish them; if neither model were better, each
such clip would fall to either with probability 1/2.

Trials repeated on new seeds: the values of a trial over seeds are taken as normal around its own
mean, with one spread common to all trials, since two seeds each do not determine a spread of
their own. With flat priors on the means and 1/variance on the spread, the means lie spread as
Student's t about what was measured, with as many degrees of freedom as there are values beyond
one a trial. For two trials that gives the chance exactly (one minus the p of the one-sided t
test); for more it is drawn with a fixed seed.

Written out here because importing `scipy.stats` takes seconds; the tests compare the results
with those of scipy and statsmodels.
"""

import dataclasses
import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.plan.distributions import t_cdf

#: Up to this many clips that distinguish two models the test is exact, above it chi-squared.
EXACT_CLIPS = 1000
#: A difference is called real if chance makes one as large less often than this.
LEVEL = 0.05
#: Draws for the order of three trials or more.
DRAWS = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two models on the same clips.

    Args:
        clips: number of clips both were tried on.
        only_first: clips that the first model alone gets right.
        only_second: clips that the second alone gets right.
    """

    clips: int
    only_first: int
    only_second: int

    @property
    def difference(self) -> float:
        """How much the first reads above the second, a fraction."""
        return (self.only_first - self.only_second) / self.clips

    @property
    def std_error(self) -> float:
        """The standard error of the difference of two proportions on the same clips."""
        apart = self.only_first + self.only_second
        off = self.only_first - self.only_second
        return math.sqrt(max(0.0, apart - off * off / self.clips)) / self.clips

    @property
    def exact(self) -> bool:
        """Whether `p` is of the exact test."""
        return self.only_first + self.only_second <= EXACT_CLIPS

    @property
    def p(self) -> float:
        """How often chance alone makes the two differ at least as much.

        Source: McNemar, Psychometrika 12 (1947); the exact form is the two-sided binomial test.
        """
        first, second = self.only_first, self.only_second
        apart = first + second
        if apart == 0:
            return 1.0
        if self.exact:
            return min(1.0, 2 * _tail(apart, min(first, second)) / (1 << apart))
        statistic = max(0, abs(first - second) - 1) ** 2 / apart  # continuity correction
        return math.erfc(math.sqrt(statistic / 2))


def _tail(n: int, most: int) -> int:
    """Return how many of the 2^n outcomes of n throws have at most `most` heads."""
    total = ways = 1
    for k in range(most):
        ways = ways * (n - k) // (k + 1)
        total += ways
    return total


def pair(first: int, second: int, clips: int) -> McNemar:
    """Return two models' comparison from the clips that each gets right, one bit a clip."""
    return McNemar(
        clips=clips,
        only_first=(first & ~second).bit_count(),
        only_second=(second & ~first).bit_count(),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in their order.

    Among many pairs some differ by chance; after this the chance that any pair is called real
    wrongly stays below the level.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


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

    None where the spread is unknown.
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
        groups: values of each trial, in the order to be judged.
    """
    spread, freedom = pooled_spread(groups, step)
    if len(groups) < 2 or freedom < 1:
        return {"best": None, "order": None}
    if len(groups) == 2 or spread == 0:
        pairs = [chance_above(a, b, spread, freedom) for a, b in _next_pairs(groups)]
        known = [one for one in pairs if one is not None]
        return {"best": known[0], "order": math.prod(known)}
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
