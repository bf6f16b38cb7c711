"""The expected course: bands and the true learning rate, and how a run compares with them.

A band is a forecast: leaving it is reported and never a reason to stop. The lr
column of a plan may be rounded by hand, so a run is held against its own schedule, never
against that column.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from pipeline.plan.judge import LR_TOLERANCE
from pipeline.plan.sweep import Band


@dataclasses.dataclass(frozen=True, kw_only=True)
class LrDifference:
    """One epoch whose rate is not what the schedule gives.

    Args:
        shown: the rate in the log, or in the plan's table.
        true: the rate that the schedule really gives during that epoch.
    """

    epoch: int
    shown: float
    true: float

    @property
    def relative(self) -> float:
        """How far off, as a share of the true rate."""
        return abs(self.shown - self.true) / abs(self.true) if self.true else float("inf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffBand:
    """One epoch whose value lies outside the expected band."""

    epoch: int
    top1: float
    low: float
    high: float

    @property
    def below(self) -> bool:
        """Whether it lies under the band."""
        return self.top1 < self.low


def off_schedule(
    rates: Iterable[tuple[int, float]], true_lr: Sequence[float], tolerance: float = LR_TOLERANCE
) -> list[LrDifference]:
    """Return the epochs whose rate differs from the schedule by more than `tolerance`.

    Args:
        rates: (epoch, lr), epochs from 1; an epoch past the schedule's end is not compared.
        true_lr: the rate in force during epochs 1, 2, ...
        tolerance: relative; logs print five digits, and a rate of zero must be zero.
    """
    found = []
    for epoch, lr in rates:
        if not 1 <= epoch <= len(true_lr):
            continue
        true = true_lr[epoch - 1]
        # Rates far below any use (a cosine's end) are printed too coarsely to compare.
        if abs(lr - true) > max(tolerance * abs(true), 1e-9):
            found.append(LrDifference(epoch=epoch, shown=lr, true=true))
    return found


def table_differences(bands: Iterable[Band], true_lr: Sequence[float]) -> list[LrDifference]:
    """Return where the lr column of the plan's table is not what the schedule gives."""
    rates = [(band.epoch, band.lr) for band in bands if band.lr is not None]
    return off_schedule(rates, true_lr)


def off_band(values: Mapping[int, float], bands: Iterable[Band]) -> list[OffBand]:
    """Return the epochs whose value lies outside the band of just that epoch."""
    found = []
    for band in bands:
        value = values.get(band.epoch)
        low, high = band.top1
        if value is not None and not low <= value <= high:
            found.append(OffBand(epoch=band.epoch, top1=value, low=low, high=high))
    return found


def expected(bands: Sequence[Band], epoch: int) -> tuple[float, float] | None:
    """Return the band at an epoch, straight lines between the plan's epochs; None outside."""
    known = sorted(bands, key=lambda band: band.epoch)
    for left, right in zip(known, known[1:], strict=False):
        if left.epoch <= epoch <= right.epoch and right.epoch > left.epoch:
            share = (epoch - left.epoch) / (right.epoch - left.epoch)
            low, high = (a + share * (b - a) for a, b in zip(left.top1, right.top1, strict=True))
            return low, high
    return next((band.top1 for band in known if band.epoch == epoch), None)
