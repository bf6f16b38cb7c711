"""What more trials of a search are expected to gain, from the ends of those it has finished.

No shape is assumed for the ends. What the last few trials added to the best, averaged over every
order in which the trials could have come, follows from the sorted ends alone; so does what the few
before those had added. The decline continues half way between the one so far, which few trials
tell only roughly, and that of an exponential tail (there the best of n grows as 1 + 1/2 + ... +
1/n), which is the slowest that is allowed.

How many trials that takes, and what other methods give: docs/search.md.
"""

import dataclasses
import math
from collections.abc import Sequence

#: The number of trials that a forecast speaks of, unless another is given.
MORE = 5
#: From this number of ends on, forecast and gain agree within a factor of 1.5 in replays.
ENOUGH = 16
#: Trials whose gain is looked back on, twice over.
BLOCK = 3
#: The gain stays within the interval in this share of cases.
LEVEL = 0.9
#: How freely the size of a gain varies: degrees of freedom of its scale.
FREEDOM = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class GainForecast:
    """What a number of further trials gains over the best value known.

    Args:
        more: number of trials.
        chance: that any of them is better than the best.
        mean: of the gain, a fraction; no gain counts as 0.
        high: the gain stays at or below this in nine of ten cases; at least 0 always.
    """

    more: int
    chance: float
    mean: float
    high: float


def expected_gain(ends: Sequence[float], best: float, more: int = MORE) -> GainForecast | None:
    """Return what `more` trials like these would add to `best`, None with fewer ends than ENOUGH.

    Args:
        ends: the value of each finished trial of the search, a fraction; of a trial that was
            stopped, the value it was stopped at.
        best: the best value known, that of an end or a higher one from outside the search.
    """
    count = len(ends)
    if count < ENOUGH:
        return None
    ordered = sorted(ends, reverse=True)
    chance, mean = more / (count + more), _continued(ordered, more)
    ahead = max(0.0, best - ordered[0])
    if ahead > 0 and mean > 0:
        left = math.exp(-ahead * chance / mean)  # an exponential tail beyond the best end
        chance, mean = chance * left, mean * left
    room = max(0.0, 1.0 - best)
    mean = min(mean, room)
    return GainForecast(
        more=more, chance=chance, mean=mean, high=min(room, high_gain(chance, mean))
    )


def mean_best(ordered: Sequence[float], size: int) -> float:
    """Return the best of `size` of these values, averaged over all ways to choose them.

    Args:
        ordered: highest first.
    """
    count = len(ordered)
    ways = (math.comb(count - place - 1, size - 1) for place in range(count - size + 1))
    found = sum(value * number for value, number in zip(ordered, ways, strict=False))
    return found / math.comb(count, size)


def _continued(ordered: Sequence[float], more: int) -> float:
    """Return the gain of `more` trials, the decline so far continued."""
    count = len(ordered)
    now = mean_best(ordered, count)
    before = mean_best(ordered, count - BLOCK)
    gain, earlier = now - before, before - mean_best(ordered, count - 2 * BLOCK)
    if gain <= 0 or earlier <= 0:
        return 0.0
    slowest = _harmonic(count, count + BLOCK) / _harmonic(count - BLOCK, count)
    factor = (slowest + min(slowest, gain / earlier)) / 2
    total = 0.0
    for done in range(0, more, BLOCK):
        gain *= factor
        total += gain * min(1.0, (more - done) / BLOCK)
    return total


def _harmonic(first: int, last: int) -> float:
    """Return the sum of 1/i for i above `first`, up to `last`."""
    return math.fsum(1 / i for i in range(first + 1, last + 1))


def high_gain(chance: float, mean: float) -> float:
    """Return what the gain exceeds in one case of ten.

    A gain, where there is one, is taken as exponential with a scale known from few trials: a
    Lomax distribution (Pareto of the second kind).
    """
    if chance <= 1 - LEVEL:
        return 0.0
    scale = mean / chance
    return float(FREEDOM * scale * ((chance / (1 - LEVEL)) ** (1 / FREEDOM) - 1))
