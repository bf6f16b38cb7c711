"""Two readings on the same clips: McNemar's test, and Holm's correction for many pairs.

Only the clips on which exactly one of two models is right tell them apart. If neither model were
better, each such clip would fall to either with probability 1/2.
"""

import dataclasses
import math
from collections.abc import Sequence

#: Up to so many clips that tell two models apart the test is exact, beyond it is chi-squared.
EXACT_CLIPS = 1000
#: A difference is called real if chance makes one as large less often than this.
LEVEL = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two models on the same clips.

    Args:
        clips: how many clips both were tried on.
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
        """Whether `p` is exact."""
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
    """Return how many of the 2^n outcomes of n throws have at most so many heads."""
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
