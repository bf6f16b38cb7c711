"""Findings about what was learned: nothing, only the training clips, or those too well."""

import math
import statistics
from collections.abc import Iterator

from pipeline.diagnose.log_case import Finding, LogCase, at, error, tail, warning
from pipeline.diagnose.rules.completeness import why_stopped
from pipeline.diagnose.trend import scatter
from pipeline.plan.verdict import percent, standard_error
from pipeline.shared.counted import counted

#: Fewer validated epochs than this show no shape; a run that was ended needs this many.
ENOUGH, ENDED = 5, 3
#: In fewer steps of training nothing is learned yet.
STEPS = 50
#: Accuracy counts as guessing up to twice that of guessing, and up to this much above it: with
#: two classes, twice guessing would be everything.
GUESSING = 0.05
#: A loss that fell by less than this share has not improved.
UNLEARNED = 0.05
#: Training loss at the end, as a share of that at the best epoch, below which it is overfitting.
MEMORISED = 0.8
#: The fall from the best has to be this many times what chance gives one validation.
OVERFIT_ERRORS = 4
#: Training is good from this accuracy on, or with the loss below this share of guessing's.
GOOD_TOP1, GOOD_LOSS = 0.6, 0.3
#: Of the training's lead over guessing, the share below which validation shows nothing of it.
GENERALISED = 0.3


def never_learned(case: LogCase) -> Iterator[Finding]:
    """Find a run that stayed at chance level and whose loss did not fall."""
    steps = case.curve.facts.steps
    if steps is not None and steps < STEPS:
        return  # a try of the code
    evidence = _at_guessing(case) or _one_class_only(case) or _untrained(case)
    if evidence is None:
        return
    yield error(
        "never_learned",
        epoch=None,
        evidence=evidence,
        remedy="Look at labels and data first (overfit one batch), then at frozen layers and at "
        "an lr of the wrong order.",
    )


def _at_guessing(case: LogCase) -> str | None:
    """Return the evidence that no validation was better than guessing among the classes."""
    values, chance = case.sound, case.chance
    if chance is None or not values or case.series is None or not _long_enough(case):
        return None
    best_point, best = max(values, key=lambda pair: pair[1])
    losses = case.losses(1, case.curve.last_epoch)
    if best > _guessing(case, chance):
        return None
    if len(losses) >= 2 and tail(losses) < (1 - UNLEARNED) * losses[0]:
        return None
    if _trained_well(case) is not None:
        return None  # it learned something: no_generalisation
    clips = f" on about {counted(case.series.clips, 'clip')}" if case.series.clips else ""
    return (
        f"the best of {len(values)} validations{clips} is {at(best_point, best)}, guessing among "
        f"{case.curve.facts.num_classes} classes gives {percent(chance)}{_loss_went(losses)}"
    )


def _one_class_only(case: LogCase) -> str | None:
    """Return the evidence that every clip gets one class, where their number is not known.

    Then every validation gives one value to the last digit, which even two equal checkpoints of a
    model that learns do not, and the training is no better.
    """
    values, trained = case.sound, [value for _, value in case.train_top1]
    if case.chance is not None or len(values) < ENOUGH or not trained:
        return None
    first = values[0][1]
    if any(value != first for _, value in values) or first > 1 / 2:
        return None
    if tail(trained) > first + GUESSING:
        return None
    return (
        f"all {len(values)} validations give {percent(first)} to the last digit, and training "
        f"top-1 is {percent(tail(trained))} (last three epochs): every clip gets one class"
    )


def _untrained(case: LogCase) -> str | None:
    """Return the evidence of the training alone, for a run without any validation."""
    chance, last = case.chance, case.curve.last_epoch
    losses, trained = case.losses(1, last), [value for _, value in case.train_top1]
    if case.curve.validated or chance is None or last < max(ENOUGH, (case.planned or 30) / 3):
        return None
    guess = -math.log(chance)
    if len(losses) < ENOUGH or tail(losses) < (1 - UNLEARNED) * guess:
        return None
    if (1 + UNLEARNED) * guess < tail(losses) < (1 - UNLEARNED) * losses[0]:
        return None  # other terms of the loss fell
    if trained and tail(trained) > chance + min(chance, GUESSING):
        return None
    top1 = f"training top-1 is {percent(tail(trained))} (last three epochs), " if trained else ""
    return (
        f"{top1}guessing among {case.curve.facts.num_classes} classes gives {percent(chance)} and "
        f"a loss of {guess:.4g}{_loss_went(losses)}"
    )


def _loss_went(losses: list[float]) -> str:
    return f"; the loss went from {losses[0]:.4g} to {losses[-1]:.4g}" if losses else ""


def _long_enough(case: LogCase) -> bool:
    """Whether the run had its chance: a third of its epochs, or something ended it."""
    values, last = case.sound, case.curve.last_epoch
    if why_stopped(case) is not None or (case.planned or math.inf) <= last:
        return len(values) >= ENDED
    return len(values) >= ENOUGH and values[-1][0].epoch >= max(ENOUGH, (case.planned or 30) / 3)


def _guessing(case: LogCase, chance: float) -> float:
    """Return the accuracy up to which a run may be guessing."""
    assert case.series is not None
    by_error = 3 * (standard_error(chance, case.series.clips) or 0.0)
    return chance + max(min(chance, GUESSING), min(by_error, 2 * chance, (1 - chance) / 2))


def _trained_well(case: LogCase) -> tuple[float | None, str] | None:
    """Return the training accuracy (None if not logged) and words for it; None if it is poor."""
    accuracies = [value for _, value in case.train_top1]
    if accuracies:
        end = tail(accuracies)
        return (end, f"training top-1 is {percent(end)}") if end >= GOOD_TOP1 else None
    losses, classes = case.losses(1, case.curve.last_epoch), case.curve.facts.num_classes or 1
    if len(losses) < ENDED or classes < 2 or tail(losses) >= GOOD_LOSS * math.log(classes):
        return None
    return None, f"the training loss is {tail(losses):.4g}, guessing's is {math.log(classes):.4g}"


def no_generalisation(case: LogCase) -> Iterator[Finding]:
    """Find good training beside a validation that shows next to nothing of it."""
    values, trained, chance = case.sound, _trained_well(case), case.chance or 0.0
    if trained is None or len(values) < ENDED or case.series is None:
        return
    best_point, best = max(values, key=lambda pair: pair[1])
    lead = (1.0 if trained[0] is None else trained[0]) - chance
    at_chance = case.chance is not None and best <= _guessing(case, chance)
    if not at_chance and best - chance >= GENERALISED * lead:
        return
    guess = f"; guessing gives {percent(chance)}" if case.chance is not None else ""
    yield Finding(
        id="no_generalisation",
        severity="error" if at_chance else "warning",
        epoch=best_point.epoch,
        evidence=f"{trained[1]} (last three epochs), the best validation of {len(values)} is "
        f"{at(best_point, best)}{guess}",
        remedy="First check labels and splits: are both lists numbered alike, from 0, with the "
        "same class order, and read by the same pipeline (pcan data check)? Validate on the "
        "training list: a low value there shows it. Only then is it overfitting: more data, "
        "augmentation, weight decay, fewer epochs.",
    )


def overfit(case: LogCase) -> Iterator[Finding]:
    """Find a training loss that went on falling while the validation fell back from its best."""
    values = case.sound
    if case.series is None or len(values) < ENOUGH + 1:
        return
    best_point, best = max(values, key=lambda pair: (pair[1], -pair[0].epoch))
    if best_point.epoch > 2 / 3 * values[-1][0].epoch:
        return
    end = tail([value for _, value in values])
    # The best is the luckiest of many readings: two errors above its neighbours are usual.
    spread = max(scatter([v for _, v in values]), case.series.noise(0.0) / 2)
    then = case.losses(best_point.epoch - 1, best_point.epoch + 1)
    losses = case.losses(best_point.epoch, values[-1][0].epoch)
    if best - end <= max(0.01, OVERFIT_ERRORS * spread) or not then or len(losses) < 3:
        return
    before, after = statistics.fmean(then), tail(losses)
    if after > MEMORISED * before:
        return
    clips = case.series.clips
    lost = f", about {(best - end) * clips:.0f} of {clips} clips" if clips else ""
    yield warning(
        "overfit",
        epoch=best_point.epoch,
        evidence=f"since {at(best_point, best)} the training loss fell from {before:.4g} to "
        f"{after:.4g} while top-1 sank to {percent(end)} (mean of the last three{lost})",
        remedy="Use the best checkpoint, not the last; then train shorter, or with more weight "
        "decay, dropout or augmentation.",
    )
