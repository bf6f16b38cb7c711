"""Findings about the learning rate, each resting on what the run did, never on a value alone."""

import dataclasses
from collections.abc import Iterator

from pipeline.diagnose.curve import Point
from pipeline.diagnose.log_case import Finding, LogCase, at, warning
from pipeline.plan.verdict import percent

#: A start below this share of the peak is a warm-up.
WARM_START = 1 / 2
#: A start below this share of the peak is small beside what the run itself then uses.
SMALL_START = 1 / 5
#: A training loss that fell by less than this share did not fall.
STILL = 0.02
#: Rates below this share of the peak change hardly anything; they are wasted hours if they last
#: for this share of the epochs, and for at least this many.
EXHAUSTED = 0.01
EXHAUSTED_SHARE = 1 / 4
EXHAUSTED_EPOCHS = 5


@dataclasses.dataclass(frozen=True)
class _WarmUp:
    """A rate that rises from the run's first epoch."""

    first: Point
    peak: Point

    @property
    def words(self) -> str:
        low, high = self.first.lr or 0.0, self.peak.lr_end or 0.0
        first, last = self.first.epoch, self.peak.epoch
        return f"the lr rose from {low:g} (epoch {first}) to {high:g} (epoch {last})"


def warmup_on_finetune(case: LogCase) -> Iterator[Finding]:
    """Find a warm-up on loaded weights after which the run never recovered."""
    warm_up = _warm_up(case)
    if warm_up is None or not _from_weights(case) or not case.values or case.series is None:
        return
    noise, (first, first_value) = case.series.noise(), case.values[0]
    best = max(value for _, value in case.values)
    if case.start is not None and first_value < case.start - noise and best < case.start:
        fall = f"{percent(case.start)} before training, {at(first, first_value)}"
    else:
        after = next(((p, v) for p, v in case.values if p.epoch >= warm_up.peak.epoch), None)
        if after is None or after[1] >= first_value - noise:
            return
        if any(v > first_value for p, v in case.values if p.epoch > first.epoch):
            return
        fall = f"{at(first, first_value)}, {at(*after)}"
    source = f"weights were loaded ({case.curve.facts.load_from}) and " if _named(case) else ""
    yield warning(
        "warmup_on_finetune",
        epoch=warm_up.first.epoch,
        evidence=f"{source}{warm_up.words} while top-1 fell: {fall}; no later epoch recovered",
        remedy=(
            "Fine-tune without a warm-up: begin at a rate well below the peak (the one "
            "used here) and let it only fall, for example a cosine from the first epoch on."
        ),
    )


def lr_too_small(case: LogCase) -> Iterator[Finding]:
    """Find a slow start without progress: a rate small beside the run's own peak, and no gain.

    A small rate alone is not a fault, and where the rate is small throughout, no larger one shows
    that the rate was the reason. So the rule compares with the run's own later rates.
    """
    warm_up = _warm_up(case)
    if warm_up is None or (warm_up.first.lr or 0.0) > SMALL_START * case.peak:
        return
    slow = [p for p in case.rates if p.epoch < warm_up.peak.epoch]
    slow = [p for p in slow if (p.lr or 0.0) < WARM_START * case.peak]
    if not slow:
        return
    last, gained = slow[-1].epoch, _no_gain(case, slow[-1].epoch)
    losses = case.losses(slow[0].epoch, last)
    still = len(losses) >= 2 and losses[-1] > (1 - STILL) * losses[0]
    if gained is None or (losses and not still) or (not losses and len(slow) < 3):
        return
    loss = (
        f" and the training loss did not fall ({losses[0]:.4g} to {losses[-1]:.4g})"
        if still
        else ""
    )
    recovered = any(value > gained[1] for _, value in case.values)
    yield Finding(
        id="lr_too_small",
        severity="note" if recovered else "warning",
        epoch=slow[0].epoch,
        evidence=(
            f"in epochs {slow[0].epoch}-{last} the lr ({slow[0].lr:g} to {slow[-1].lr:g}) was "
            f"below half its peak {case.peak:g}; {gained[0]}{loss}"
        ),
        remedy=(
            "Drop the slow start or begin it higher. A low rate by itself is not a fault: compare "
            "a run at a steady rate between the two before choosing."
        ),
    )


def lr_exhausted(case: LogCase) -> Iterator[Finding]:
    """Find a schedule that ended long before the training did."""
    rates, peak = case.rates, case.peak
    spent: list[Point] = []
    for point in reversed(rates):
        if peak <= 0 or (point.lr or 0.0) > EXHAUSTED * peak:
            break
        spent.insert(0, point)
    if len(spent) < max(EXHAUSTED_EPOCHS, EXHAUSTED_SHARE * len(rates)) or case.series is None:
        return
    before = [value for point, value in case.values if point.epoch < spent[0].epoch]
    during = [value for point, value in case.values if point.epoch >= spent[0].epoch]
    if not before or not during or max(during) - max(before) > case.series.noise():
        return
    losses = case.losses(spent[0].epoch, spent[-1].epoch)
    if losses and losses[-1] < (1 - STILL) * losses[0]:
        return
    yield warning(
        "lr_exhausted",
        epoch=spent[0].epoch,
        evidence=(
            f"from epoch {spent[0].epoch} on the lr is at most {spent[0].lr:g}, under 1 % of its "
            f"peak {peak:g}: {len(spent)} of {len(rates)} epochs, in which the best top-1 went "
            f"from {percent(max(before))} to {percent(max(during))}"
        ),
        remedy="Let the schedule end with the training (T_max, end, milestones), "
        "or train shorter.",
    )


def _warm_up(case: LogCase) -> _WarmUp | None:
    """Return the warm-up that the logged rates show."""
    rates = case.rates
    if not rates or case.peak <= 0 or case.curve.facts.resumed_epoch:
        return None
    first = rates[0]
    peak = next(p for p in rates if (p.lr_end or 0.0) >= 0.999 * case.peak)
    if (first.lr or 0.0) >= WARM_START * case.peak or first.epoch > 1:
        return None
    return _WarmUp(first, peak)


def _from_weights(case: LogCase) -> bool:
    return case.curve.facts.load_from is not None or case.start is not None


def _named(case: LogCase) -> bool:
    return case.curve.facts.load_from is not None


def _no_gain(case: LogCase, last: int) -> tuple[str, float] | None:
    """Return a text and the value compared with if no epoch up to `last` gained, else None."""
    values = [(point, value) for point, value in case.values if point.epoch <= last]
    if case.start is not None and values and max(v for _, v in values) <= case.start:
        point, value = values[-1]
        return (
            f"top-1 did not rise above the start's {percent(case.start)} ({at(point, value)})",
            case.start,
        )
    if len(values) < 2 or any(value > values[0][1] for _, value in values[1:]):
        return None
    return f"top-1 gained nothing ({at(*values[0])}, {at(*values[-1])})", values[0][1]
