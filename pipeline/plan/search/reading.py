"""What a stopping rule reads of a trial at a check: the greater of two values. Pure.

The best value so far ranks trials by their lr, the lowest first, while a cosine schedule still has
a high lr: the noise that such a rate puts on the weights hides what they have learned. The mean of
the weights over the later half of the epochs has that noise taken out, which is what the schedule
does later. Where it was not read, the best so far stands alone.
"""

import dataclasses
import math
from collections.abc import Sequence

#: One or two epochs are too few for a mean: no check before this epoch reads averaged weights.
FEWEST_EPOCHS = 3
#: What one reading costs, in epochs: batch statistics measured again, and one more validation.
EPOCHS_PER_READING = 0.2


@dataclasses.dataclass(frozen=True)
class RungReading:
    """One trial's values at a check, as fractions.

    Args:
        best: the best value so far.
        averaged: the value of the averaged weights; None where it was not read, or is not finite.
    """

    best: float
    averaged: float | None = None

    @classmethod
    def of(cls, best: float, averaged: float | None) -> "RungReading":
        """Return the reading; an averaged value that is not finite does not count."""
        counts = averaged is not None and math.isfinite(averaged)
        return cls(best, averaged if counts else None)

    @property
    def value(self) -> float:
        """What trials are ranked by."""
        return self.best if self.averaged is None else max(self.best, self.averaged)

    def words(self, digits: int) -> str:
        """Return both values in points, as a verdict's sentence has them."""
        best = f"best so far {100 * self.best:.{digits}f}"
        if self.averaged is None:
            return best
        return f"averaged {100 * self.averaged:.{digits}f}, {best}"


def digits_for(values: Sequence[float]) -> int:
    """Return with how many digits values in points differ, four at most."""
    for digits in (1, 2):
        if len({f"{100 * value:.{digits}f}" for value in values}) == len(set(values)):
            return digits
    return 4
