"""Findings about the shape of the curve: what the values themselves show."""

import statistics
from collections.abc import Iterator

from pipeline.diagnose.log_case import Finding, LogCase, at, error, tail, warning
from pipeline.plan.verdict import percent
from pipeline.shared.states import Cause

#: Fewer validated epochs than this show no shape.
ENOUGH = 5
#: A best epoch within this share of the run, counted from its start, is "at the start".
START_SHARE = 0.1
#: A value below this share of the best so far is a collapse, if it stays there.
COLLAPSED = 1 / 2
#: Accuracy up to this many times that of guessing counts as guessing.
GUESSING = 2
#: A loss that fell by less than this share has not improved.
UNLEARNED = 0.05
#: A drop from one validation to the next that counts as a swing, when chance does not explain
#: it, and how many of them make a run unstable.
SWING, SWINGS, SWING_SHARE = 0.05, 3, 0.2
#: Training loss at the end, as a share of that at the best epoch, below which it is overfitting.
MEMORISED = 0.8
#: A branch has to lose this much, and twice what the fused metric loses.
BRANCH_FALL = 0.05


def nan_loss(case: LogCase) -> Iterator[Finding]:
    """Find the first non-finite loss or metric."""
    not_finite, failure = case.curve.nan_loss, case.curve.facts.failure
    epoch: int | None
    if failure is not None and failure.startswith(Cause.NAN):
        epoch, what = case.curve.last_epoch or None, f"the job ended itself: {failure}"
    elif not_finite is not None:
        what = f"the training loss is not finite in epoch {not_finite[0]} (line {not_finite[1]})"
        epoch = not_finite[0]
    else:
        pairs = zip(case.series.points, case.series.values, strict=True) if case.series else ()
        point = next((p for p, value in pairs if value != value), None)
        if point is None or case.series is None:
            return
        epoch = point.epoch
        what = f"{case.series.metric} is {point.metrics[case.series.metric]} in {at(point)}"
    yield error(
        "nan_loss",
        epoch=epoch,
        evidence=what,
        remedy="Results after it are invalid. Go back to the last finite checkpoint with a lower "
        "lr or a tighter clip_grad; if it was the first epoch, look at the data and at fp16.",
    )


def collapse(case: LogCase) -> Iterator[Finding]:
    """Find a fall to less than half of the best from which the run did not recover."""
    values, chance = case.values, _chance(case) or 0.0
    if case.series is None or len(values) < 2:
        return
    best_point, best = values[0]
    for i, (point, value) in enumerate(values):
        if value > best:
            best_point, best = point, value
        fell = value < COLLAPSED * best and best - value > 2 * case.series.noise(0.05)
        if not fell or best < max(0.1, 3 * chance):
            continue
        if all(later < COLLAPSED * best for _, later in values[i:]):
            yield error(
                "collapse",
                epoch=point.epoch,
                evidence=f"top-1 fell from {at(best_point, best)} to {at(point, value)} "
                "and stayed down",
                remedy="Compare lr, loss and data just before that epoch; go back to the "
                f"checkpoint of epoch {best_point.epoch} with a lower lr or a tighter clip_grad.",
            )
            return


def best_at_start(case: LogCase) -> Iterator[Finding]:
    """Find a run that only got worse: its best is its start, and the end lies clearly below."""
    values = case.values
    if case.series is None or len(values) < ENOUGH + 1:
        return
    best_point, best = max(values, key=lambda pair: (pair[1], -pair[0].epoch))
    reference, where = best, at(best_point, best)
    if case.start is not None and best < case.start - case.series.noise():
        reference, where = case.start, f"{percent(case.start)} before training"
    else:
        index = next(i for i, (point, _) in enumerate(values) if point is best_point)
        if index > START_SHARE * (len(values) - 1) or len(values) - 1 - index < ENOUGH:
            return
    end = tail([value for _, value in values])
    if end >= reference - case.series.noise():
        return
    yield warning(
        "best_at_start",
        epoch=best_point.epoch,
        evidence=f"the best is {where}; the last three validated epochs average {percent(end)}",
        remedy="Training made the weights worse. For a fine-tune that means a lower or falling lr "
        "from the start; otherwise check that the loss and the labels fit the checkpoint.",
    )


def never_learned(case: LogCase) -> Iterator[Finding]:
    """Find a run that stayed at chance level and whose loss did not fall."""
    values, chance = case.values, _chance(case)
    enough = max(ENOUGH, (case.planned or 30) / 3)
    if chance is None or len(values) < ENOUGH or values[-1][0].epoch < enough:
        return
    best_point, best = max(values, key=lambda pair: pair[1])
    losses = case.losses(1, case.curve.last_epoch)
    if best > GUESSING * chance:
        return
    if len(losses) >= 2 and tail(losses) < (1 - UNLEARNED) * losses[0]:
        return
    loss = f"; the loss went from {losses[0]:.4g} to {losses[-1]:.4g}" if losses else ""
    yield error(
        "never_learned",
        epoch=None,
        evidence=f"the best of {len(values)} validations is {at(best_point, best)}, guessing "
        f"among {case.curve.facts.num_classes} classes gives {percent(chance)}{loss}",
        remedy="Look at labels and data first (overfit one batch), then at frozen layers and at "
        "an lr of the wrong order.",
    )


def unstable(case: LogCase) -> Iterator[Finding]:
    """Find repeated large swings, beyond what the size of the validation set explains."""
    values = case.values[len(case.values) // 4 :]
    if case.series is None or len(values) < ENOUGH:
        return
    # The difference of two validations has 1.4 times the error of one; three of those.
    swing = max(SWING, 2.1 * case.series.noise(0.0))
    steps = list(zip(values, values[1:], strict=False))
    drops = [(a, b) for a, b in steps if a[1] - b[1] > swing]
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


def overfit(case: LogCase) -> Iterator[Finding]:
    """Find a training loss that went on falling while the validation fell back from its best."""
    values = case.values
    if case.series is None or len(values) < ENOUGH + 1:
        return
    best_point, best = max(values, key=lambda pair: (pair[1], -pair[0].epoch))
    if best_point.epoch > 2 / 3 * values[-1][0].epoch:
        return
    end = tail([value for _, value in values])
    then = case.losses(best_point.epoch - 1, best_point.epoch + 1)
    losses = case.losses(best_point.epoch, case.curve.last_epoch)
    if end > best - case.series.noise(0.01) or not then or len(losses) < 3:
        return
    before, after = statistics.fmean(then), tail(losses)
    if after > MEMORISED * before:
        return
    yield warning(
        "overfit",
        epoch=best_point.epoch,
        evidence=f"since {at(best_point, best)} the training loss fell from {before:.4g} to "
        f"{after:.4g} while top-1 sank to {percent(end)} (mean of the last three)",
        remedy="Use the best checkpoint, not the last; then train shorter, or with more weight "
        "decay, dropout or augmentation.",
    )


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


def _chance(case: LogCase) -> float | None:
    classes = case.curve.facts.num_classes
    return 1 / classes if classes else None
