"""Findings about the learning rate, each resting on what the run did, never on a value alone."""

import dataclasses
import math
from collections.abc import Iterator

from pipeline.diagnose.curve import Point
from pipeline.diagnose.log_case import Finding, LogCase, at, tail, warning
from pipeline.diagnose.trend import change, scatter
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
#: Top-1 that still rises by this much, between the means of both ends, is not finished.
STILL_RISING = 0.002


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
    that the rate was the reason. So the rule compares with the run's own later rates, and is
    silent where the larger ones made it worse.
    """
    warm_up = _warm_up(case)
    if warm_up is None or (warm_up.first.lr or 0.0) > SMALL_START * case.peak:
        return
    slow = _slow(case, warm_up)
    if not slow or _worse(case, warm_up):
        return
    last, gained = slow[-1].epoch, _no_gain(case, slow[-1].epoch)
    losses = case.losses(slow[0].epoch, last)
    moved = change(losses)
    still = moved is not None and not moved.fell(STILL * moved.before)
    if gained is None or (losses and not still) or (not losses and len(slow) < 3):
        return
    loss = (
        f" and the training loss did not fall ({losses[0]:.4g} to {losses[-1]:.4g})"
        if still
        else ""
    )
    noise = case.series.noise() if case.series else 0.0
    recovered = any(value > gained[1] + noise for _, value in case.sound)
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


def lr_too_large(case: LogCase) -> Iterator[Finding]:
    """Find a run that got worse as its rate rose, and did not make up for it afterwards."""
    warm_up = _warm_up(case)
    signs = _worse(case, warm_up) if warm_up is not None else []
    if warm_up is None or not signs or _better(case, warm_up) or _made_up(case, warm_up):
        return
    yield warning(
        "lr_too_large",
        epoch=warm_up.peak.epoch,
        evidence=f"as {warm_up.words}, {' and '.join(signs)}; no later epoch made up for it",
        remedy=f"Use a lower peak: the run was better below {WARM_START * case.peak:g} than at "
        f"{case.peak:g}. Check clip_grad as well.",
    )


def _slow(case: LogCase, warm_up: _WarmUp) -> list[Point]:
    """Return the epochs of a warm-up below half its peak."""
    rising = [p for p in case.rates if p.epoch < warm_up.peak.epoch]
    return [p for p in rising if (p.lr or 0.0) < WARM_START * case.peak]


def _worse(case: LogCase, warm_up: _WarmUp) -> list[str]:
    """Return what got worse as the rate rose, in words.

    A fall of top-1 counts if it is larger than chance and either began in the slow epochs or
    became twice as fast behind them: at one steady pace from the lowest rate on, the rate is not
    its reason.
    """
    slow, signs = _slow(case, warm_up), []
    if not slow:
        return []
    turn, peak = slow[-1].epoch, warm_up.peak.epoch
    losses = change(case.losses(slow[0].epoch, peak))
    if losses is not None and losses.rose(STILL * losses.before):
        signs.append(f"the training loss rose from {losses.before:.4g} to {losses.after:.4g}")
    rising = [pair for pair in case.sound if slow[0].epoch <= pair[0].epoch <= peak]
    low = [pair for pair in rising if pair[0].epoch <= turn]
    if len(rising) < 2 or not low or case.series is None:
        return signs
    noise = math.sqrt(2) * case.series.noise()
    first, middle, end = rising[0], low[-1], rising[-1]
    pace = (first[1] - middle[1]) / max(1, middle[0].epoch - first[0].epoch)
    later = (middle[1] - end[1]) / max(1, end[0].epoch - middle[0].epoch)
    if first[1] - end[1] > noise and (first[1] - middle[1] > noise or later > 2 * max(pace, 0.0)):
        signs.append(f"top-1 fell from {at(*first)} to {at(*end)}")
    return signs


def _better(case: LogCase, warm_up: _WarmUp) -> bool:
    """Whether top-1 or the training loss improved while the rate rose."""
    first, peak = warm_up.first.epoch, warm_up.peak.epoch
    losses = change(case.losses(first, peak))
    values = [value for point, value in case.sound if first <= point.epoch <= peak]
    if losses is not None and losses.fell(STILL * losses.before):
        return True
    return bool(case.series and values and values[-1] > values[0] + case.series.noise())


def _made_up(case: LogCase, warm_up: _WarmUp) -> bool:
    """Whether the run got clearly past its slow epochs later, in top-1 or without it in loss."""
    slow, peak = _slow(case, warm_up), warm_up.peak.epoch
    low = [value for point, value in case.sound if point.epoch <= slow[-1].epoch]
    later = [value for point, value in case.sound if point.epoch > slow[-1].epoch]
    if low and later and case.series is not None:
        return max(later) > max(low) + case.series.noise()
    losses, after = case.losses(slow[0].epoch, slow[-1].epoch), case.losses(peak, 10**9)
    return bool(losses and after and tail(after) < min(losses))


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
    before = [value for point, value in case.sound if point.epoch < spent[0].epoch]
    during = [value for point, value in case.sound if point.epoch >= spent[0].epoch]
    noise = max(case.series.noise(), 2 * scatter(during))
    if not before or not during or max(during) - max(before) > noise:
        return
    gained, losses = change(during), change(case.losses(spent[0].epoch, spent[-1].epoch))
    if gained is not None and gained.rose(STILL_RISING):
        return
    if losses is not None and losses.fell(STILL * losses.before):
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
    noise = case.series.noise() if case.series else 0.0
    if len(values) < 2 or any(value > values[0][1] + noise for _, value in values[1:]):
        return None
    return f"top-1 gained nothing ({at(*values[0])}, {at(*values[-1])})", values[0][1]
