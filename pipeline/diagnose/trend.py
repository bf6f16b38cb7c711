"""Whether a series of readings rose or fell, beyond its own scatter."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

#: Readings that the test of a steady fall looks at.
_MOST = 300


@dataclasses.dataclass(frozen=True)
class Trend:
    """How a series moved from its first third to its last.

    Args:
        before: mean of the first third.
        after: mean of the last third.
        error: standard error of their difference, by the scatter from one reading to the next;
            0 for fewer than four readings, which show no scatter.
    """

    before: float
    after: float
    error: float

    @property
    def rise(self) -> float:
        """How far the mean rose; negative where it fell."""
        return self.after - self.before

    def rose(self, at_least: float = 0.0) -> bool:
        """Whether it rose by more than `at_least` and more than its scatter explains."""
        return self.rise > max(at_least, 2 * self.error)

    def fell(self, at_least: float = 0.0) -> bool:
        """Whether it fell by more than `at_least` and more than its scatter explains."""
        return -self.rise > max(at_least, 2 * self.error)


def change(values: Sequence[float]) -> Trend | None:
    """Compare both ends of a series; None for fewer than two readings.

    Means of the ends, because a single epoch varies too much: a loss that alternates between
    0.30 and 0.29 has not fallen, whichever comes last.
    """
    if len(values) < 2:
        return None
    third = max(1, len(values) // 3)
    before, after = statistics.fmean(values[:third]), statistics.fmean(values[-third:])
    error = scatter(values) * math.sqrt(2 / third) if len(values) >= 4 else 0.0
    return Trend(before, after, error)


def scatter(values: Sequence[float]) -> float:
    """Return the standard deviation of single readings around their own slow course.

    From second differences, which a straight course leaves at zero; their median, so that a step
    of the schedule does not count. Their mean where most are zero: a few clips leave few values.
    0 for fewer than four readings.
    """
    if len(values) < 4:
        return 0.0
    triples = zip(values, values[1:], values[2:], strict=False)
    second = [abs(a - 2 * b + c) for a, b, c in triples]
    if median := statistics.median(second):
        return median / (0.6745 * math.sqrt(6))
    return statistics.fmean(second) / (0.7979 * math.sqrt(6))


def falls_steadily(values: Sequence[float]) -> bool:
    """Whether a series goes down as a whole: Kendall's test, one-sided at one in a hundred."""
    # Of a very long series every k-th reading: the test looks at all pairs.
    values = values[:: 1 + len(values) // _MOST]
    n = len(values)
    if n < 5:
        return False
    pairs = [(values[i], values[j]) for i in range(n) for j in range(i + 1, n)]
    score = sum((b > a) - (b < a) for a, b in pairs)
    variance = n * (n - 1) * (2 * n + 5) / 18
    return score / math.sqrt(variance) < -2.33
