"""Findings about the shape of the curve: what the values themselves show."""

import statistics
from collections.abc import Iterator

from pipeline.diagnose.curve import Point, in_line
from pipeline.diagnose.log_case import Finding, LogCase, at, tail, warning
from pipeline.diagnose.trend import falls_steadily, scatter
from pipeline.plan.verdict import percent
from pipeline.shared.states import Cause

#: Fewer validated epochs than this show no shape.
ENOUGH = 5
#: A best epoch within this share of the run, counted from its start, is "at the start".
START_SHARE = 0.1
#: A value that lost more than this share of the best's lead over guessing is a collapse, if it
#: stays there; the lead has to be this large to begin with.
COLLAPSED, LEAD = 1 / 2, 0.1
#: A drop from one validation to the next that counts as a swing, when chance does not explain
#: it, and how many of them make a run unstable.
SWING, SWINGS, SWING_SHARE = 0.05, 3, 0.2
#: A rate that rises by more than this factor in an epoch is a restart of the schedule.
RESTART = 1.2
#: A branch has to lose this much, and twice what the fused metric loses.
BRANCH_FALL = 0.05
#: The luckiest of many readings lies up to this many times their scatter above the others.
LUCKIEST = 4
#: A decline is a fall of at least this much, over this share of the validations or more.
DECLINE, LONG = 0.02, 1 / 4


def nan_loss(case: LogCase) -> Iterator[Finding]:
    """Find the first non-finite loss or metric, and the last checkpoint worth going back to."""
    found = _first_non_finite(case)
    if found is None:
        return
    epoch, what = found
    recovered = case.broken_from is None and not _failed(case)
    before = [pair for pair in case.values if epoch is None or pair[0].epoch < epoch]
    best = max(before, key=lambda pair: (pair[1], -pair[0].epoch), default=None)
    if best is None:
        back = "no epoch was validated before it"
    else:
        back = f"the best before it is {at(best[0], best[1])}"
        if fallen := _collapse(before, case):
            back += f", and the run had collapsed already: {at(*fallen[1])}"
    remedy = (
        f"Go back to the checkpoint of epoch {best[0].epoch}"
        if best is not None
        else "Begin again"
    )
    yield Finding(
        id="nan_loss",
        severity="warning" if recovered else "error",
        epoch=epoch,
        evidence=f"{what}; "
        + ("later epochs are finite again and kept the accuracy; " if recovered else "")
        + back,
        remedy="Nothing, if it was one step that mixed precision skipped; watch grad_norm."
        if recovered
        else f"Results after it are invalid. {remedy} with a lower lr or a tighter clip_grad; if "
        "it was the first epoch, look at the data and at fp16.",
    )


def _failed(case: LogCase) -> bool:
    return (case.curve.facts.failure or "").startswith(Cause.NAN)


def _first_non_finite(case: LogCase) -> tuple[int | None, str] | None:
    """Return the epoch and the words for it, None if every loss and metric is finite."""
    not_finite, series = case.curve.nan_loss, case.series
    if _failed(case):
        return case.curve.last_epoch or None, f"the job ended itself: {case.curve.facts.failure}"
    if not_finite is not None:
        epoch, line = not_finite
        return epoch, f"the training loss is not finite in epoch {epoch}{in_line(line)}"
    pairs = zip(series.points, series.values, strict=True) if series else ()
    point = next((p for p, value in pairs if value != value), None)
    if point is None or series is None:
        return None
    return point.epoch, f"{series.metric} is {point.metrics[series.metric]} in {at(point)}"


Value = tuple[Point, float]


def collapse(case: LogCase) -> Iterator[Finding]:
    """Find a fall from the best towards guessing from which the run did not recover."""
    fallen = _collapse(case.sound, case)
    if fallen is None:
        return
    best, down, count = fallen
    chance = case.chance
    guessing = f" (guessing gives {percent(chance)})" if chance is not None else ""
    once = count == 1
    yield Finding(
        id="collapse",
        severity="warning" if once else "error",
        epoch=down[0].epoch,
        evidence=f"top-1 fell from {at(*best)} to {at(*down)}{guessing}, "
        + ("the last validation there is" if once else "and stayed down"),
        remedy=f"Go back to the checkpoint of epoch {best[0].epoch}, with a lower lr or a tighter "
        "clip_grad; compare lr, loss and data just before the fall.",
    )


def _collapse(values: list[Value], case: LogCase) -> tuple[Value, Value, int] | None:
    """Return the best, the value that fell from it for good, and how many lie down there."""
    if case.series is None or len(values) < 2:
        return None
    chance, noise = case.chance or 0.0, case.series.noise(0.05)
    best = values[0]
    for i, (point, value) in enumerate(values):
        if value > best[1]:
            best = (point, value)
        lead = best[1] - chance
        floor = best[1] - COLLAPSED * lead
        if value >= floor or lead < LEAD or best[1] - value <= 2 * noise:
            continue
        if all(later < floor for _, later in values[i:]):
            return best, (point, value), len(values) - i
    return None


def decline(case: LogCase) -> Iterator[Finding]:
    """Find a long fall of top-1 that is not a collapse, whatever the training loss did."""
    values = case.sound
    if case.series is None or len(values) < 2 * ENOUGH:
        return
    numbers = [value for _, value in values]
    # Means of three: the best single epoch of a noisy run always lies above its neighbours.
    means = [statistics.fmean(numbers[i : i + 3]) for i in range(len(numbers) - 2)]
    best = max(range(len(means)), key=lambda i: (means[i], -i))
    after = values[best + 3 :]
    end, spread = tail(numbers), max(scatter(numbers), case.series.noise(0.0) / 2)
    if len(after) < max(ENOUGH, LONG * len(values)):
        return
    if means[best] - end <= max(DECLINE, 3.5 * spread) or not falls_steadily(
        [value for _, value in after]
    ):
        return
    top = max(values[best : best + 3], key=lambda pair: pair[1])
    yield warning(
        "decline",
        epoch=top[0].epoch,
        evidence=f"since {at(*top)} top-1 has gone down for {len(after)} validations, to "
        f"{percent(end)} (mean of the last three); the mean around the best was "
        f"{percent(means[best])}",
        remedy=f"Use the checkpoint of epoch {top[0].epoch}. Compare lr and training loss from "
        "there on: a falling loss means overfitting, a rising one a rate that is too large.",
    )


def best_at_start(case: LogCase) -> Iterator[Finding]:
    """Find a run that only got worse: its best is its start, and the end lies clearly below."""
    values = case.sound
    if case.series is None or len(values) < ENOUGH + 1:
        return
    best_point, best = max(values, key=lambda pair: (pair[1], -pair[0].epoch))
    numbers, fall = [value for _, value in values], case.series.noise()
    reference, where = best, at(best_point, best)
    if case.start is not None and best < case.start - fall:
        reference, where = case.start, f"{percent(case.start)} before training"
    else:
        index = next(i for i, (point, _) in enumerate(values) if point is best_point)
        if index > START_SHARE * (len(values) - 1) or len(values) - 1 - index < ENOUGH:
            return
        # The best is the luckiest of many readings, which often is one of the first.
        fall = max(fall, LUCKIEST * scatter(numbers))
    end = tail(numbers)
    if end >= reference - fall:
        return
    yield warning(
        "best_at_start",
        epoch=best_point.epoch,
        evidence=f"the best is {where}; the last three validated epochs average {percent(end)}",
        remedy="Training made the weights worse. For a fine-tune that means a lower or falling lr "
        "from the start; otherwise check that the loss and the labels fit the checkpoint.",
    )


def unstable(case: LogCase) -> Iterator[Finding]:
    """Find repeated large swings, beyond what the size of the validation set explains."""
    values = case.sound[len(case.sound) // 4 :]
    if case.series is None or len(values) < ENOUGH:
        return
    # The difference of two validations has 1.4 times the error of one; three of those.
    swing = max(SWING, 2.1 * case.series.noise(0.0))
    steps = list(zip(values, values[1:], strict=False))
    drops = [(a, b) for a, b in steps if a[1] - b[1] > swing and not _restarted(a[0], b[0])]
    if len(drops) < max(SWINGS, SWING_SHARE * len(steps)):
        return
    (_, high), (point, low) = max(drops, key=lambda step: step[0][1] - step[1][1])
    yield warning(
        "unstable",
        epoch=point.epoch,
        evidence=f"{len(drops)} of {len(steps)} steps drop top-1 by more than {percent(swing)}; "
        f"the largest, {percent(high)} to {at(point, low)}",
        remedy="Lower the lr or raise the batch; if the training loss is calm, look at the "
        "normalisation layers (batch statistics) and at the validation set.",
    )


def _restarted(before: Point, after: Point) -> bool:
    """Whether the schedule raised the rate between two validations."""
    return (after.lr or 0.0) > RESTART * (before.lr or float("inf"))


def branch_collapse(case: LogCase) -> Iterator[Finding]:
    """Find one branch that falls clearly more than the fused metric."""
    if case.series is None or case.series.best is None:
        return
    fused = case.series.best[1] - tail([value for _, value in case.values])
    for branch, series in case.branches.items():
        values = [value for _, value in series.finite]
        if len(values) < 3 or series.best is None:
            continue
        fall = series.best[1] - tail(values)
        if fall <= series.noise(BRANCH_FALL) or fall <= 2 * fused:
            continue
        yield warning(
            "branch_collapse",
            epoch=series.best[0].epoch,
            evidence=f"the {branch} branch ({series.metric}) fell from {at(*series.best)} to "
            f"{percent(tail(values))} (mean of the last three), the fused metric by "
            f"{percent(fused)}",
            remedy=f"Look at the loss weight and the data of the {branch} branch: its share of "
            "the loss may be too large for the rate, or too small to hold it.",
        )
