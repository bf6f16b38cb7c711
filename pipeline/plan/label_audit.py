"""Do the predictions of a validation fit its labels best, or another reading of them?

A model that was trained on labels one too low, or on another order of the classes, is right on
few clips and yet far from guessing. Here the kept predictions are held against label - 1,
label + 1 and the best one-to-one exchange of classes, per branch, and the coarse predictions
against another grouping of the fine classes.

What is fitted (exchange, grouping) is fitted on one half of the clips and read on the other, both
ways. Another reading counts as better when two tests agree: McNemar's on the clips that exactly
one reading gets right, and a normal test on the agreement beyond what the frequencies of
predictions and labels alone give, without which a model that always says one class would be read
as fitting the labels of a more frequent one.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.plan.distributions import binomial_cdf
from pipeline.plan.verdict import percent
from pipeline.shared.counted import counted
from pipeline.shared.predictions import COARSE, TRUE_COARSE, Predictions

Classes = npt.NDArray[np.int64]

#: How often one validation may be called mismatched by chance, all its tests together.
LEVEL = 0.01
#: Another reading has to agree with this many more of the clips.
LEAD = 0.02
#: A shift has to show in this share of the classes: where a weak model confuses neighbours and
#: prefers one of them, it shows in every other class at most.
SHIFTED_CLASSES = 0.7
#: A class counts as exchanged if this share of its clips, and at least this many, are called by
#: the other name, and half as many at most by its own.
MOVED_SHARE, MOVED_CLIPS = 0.5, 3
#: An exchange has to explain this share of what calling each class by its most frequent
#: prediction would; a head that was never trained also calls a class by one name, but several
#: classes by the same.
EXPLAINED = 0.8
#: A fine class counts as moved to another coarse class if this share of its clips is put there.
SHARP_SHARE = 0.7
#: The same share for a shift, which a model may have learned in some of its steps only.
SHIFT_EXPLAINS = 0.6
#: How many classes a sentence names.
_NAMED = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelMismatch:
    """A reading that fits the predictions better than the labels do.

    Args:
        branch: "rgb", "pose", "rgb_coarse", ...; "" for the objective's own predictions.
        reading: the other reading in words, such as "label - 1".
        agrees: share of the clips whose prediction is that reading, a fraction.
        label_agrees: share whose prediction is the label.
        p: the greater of the two tests' p-values.
        detail: which classes are concerned; "" where all are.
    """

    branch: str
    reading: str
    agrees: float
    label_agrees: float
    clips: int
    p: float
    detail: str = ""

    def record(self) -> dict[str, Any]:
        """Return the finding as `labels.jsonl` keeps it."""
        return {**dataclasses.asdict(self), "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """The finding in one sentence without its full stop."""
        who = f"the {self.branch.replace('_', ' ')} branch" if self.branch else "the model"
        clips = counted(self.clips, "clip")
        return (
            f"{who} agrees with {self.reading} in {percent(self.agrees, 1)} of {clips}, with the "
            f"label in {percent(self.label_agrees, 1)}{self.detail}"
        )


def audit(kept: Predictions) -> list[LabelMismatch]:
    """Return for each branch the reading that fits much better than the label, if one does."""
    labels = _array(kept.labels)
    if not len(labels):
        return []
    columns = {name: _array(column) for name, column in kept.columns.items()}
    truth = columns.pop(TRUE_COARSE, None)
    fine = {n: c for n, c in columns.items() if not n.endswith(COARSE)}
    coarse = {n: c for n, c in columns.items() if n.endswith(COARSE)} if truth is not None else {}
    asked = {"": _array(kept.predicted), **fine}
    level = LEVEL / (3 * (len(asked) + len(coarse)))
    found = [_best(_of_fine(name, given, labels, level)) for name, given in asked.items()]
    for name, given in coarse.items():
        assert truth is not None
        known = fine.get(name.removesuffix(COARSE), labels) == labels
        found.append(_best(_of_coarse(name, given, truth, labels, known, level)))
    return [one for one in found if one is not None]


def _best(found: Iterator[LabelMismatch]) -> LabelMismatch | None:
    return max(found, key=lambda one: one.agrees, default=None)


def _of_fine(
    branch: str, given: Classes, labels: Classes, level: float
) -> Iterator[LabelMismatch]:
    yield from _shifted(branch, given, labels, level)
    exchanged = exchange(given, labels)
    if exchanged is not None:
        detail = _changed_classes(labels, exchanged, "called by another's name")
        words = "another order of the classes"
        yield from _better(branch, words, given, labels, exchanged, level, detail)


def _of_coarse(
    branch: str, given: Classes, truth: Classes, labels: Classes, known: Classes, level: float
) -> Iterator[LabelMismatch]:
    """Compare with another grouping, on the clips whose fine class the branch gets right."""
    yield from _shifted(branch, given, truth, level)
    given, truth, labels = given[known], truth[known], labels[known]
    regrouped = regroup(given, truth, labels)
    if regrouped is not None:
        detail = _changed_classes(
            labels, np.where(regrouped != truth, -1, labels), "put under another coarse class"
        )
        words = "another grouping of the fine classes"
        yield from _better(branch, words, given, truth, regrouped, level, detail)


def _shifted(
    branch: str, given: Classes, labels: Classes, level: float
) -> Iterator[LabelMismatch]:
    for step, words in ((-1, "label - 1"), (1, "label + 1")):
        if _in_most_classes(given, labels, labels + step):
            yield from _better(branch, words, given, labels, labels + step, level)


def _in_most_classes(given: Classes, labels: Classes, other: Classes) -> bool:
    """Whether the other reading is ahead in most classes, and explains most of what is found."""
    size = int(max(given.max(), labels.max())) + 1
    most = _counts(given, labels, size).max(axis=1).sum()
    if (given == other).sum() < SHIFT_EXPLAINS * most:
        return False
    mine, theirs = (np.bincount(labels[given == one], minlength=size) for one in (labels, other))
    possible = np.bincount(labels[other >= 0], minlength=size) > 0  # class 0 has none below it
    found = possible & (mine + theirs >= MOVED_CLIPS)
    ahead = found & (theirs > mine)
    return bool(ahead.sum() >= max(2, SHIFTED_CLASSES * found.sum()))


def _better(
    branch: str,
    words: str,
    given: Classes,
    labels: Classes,
    other: Classes,
    level: float,
    detail: str = "",
) -> Iterator[LabelMismatch]:
    """Yield the other reading if it fits better than the labels, beyond noise."""
    mine, theirs = given == labels, given == other
    if not len(given) or theirs.mean() - mine.mean() < LEAD:
        return
    only, against = int((theirs & ~mine).sum()), int((mine & ~theirs).sum())
    paired = 2 * binomial_cdf(against, only + against, 0.5)  # McNemar's exact test
    p = max(paired, _beyond_frequencies(given, labels, other))
    if p < level:
        yield LabelMismatch(
            branch=branch,
            reading=words,
            agrees=float(theirs.mean()),
            label_agrees=float(mine.mean()),
            clips=len(given),
            p=p,
            detail=detail,
        )


def _beyond_frequencies(given: Classes, labels: Classes, other: Classes) -> float:
    """Return the p-value of the lead in agreement beyond that of independent columns.

    The agreement minus its expectation from both columns' frequencies; its standard error from
    each clip's influence on it (the delta method, as for Cohen's kappa).
    """
    part = _influence(given, other) - _influence(given, labels)
    error = part.std() / math.sqrt(len(part))
    lead = _excess(given, other) - _excess(given, labels)
    if error == 0:
        return 0.0 if lead > 0 else 1.0
    return math.erfc(lead / error / math.sqrt(2)) if lead > 0 else 1.0


def _excess(given: Classes, named: Classes) -> float:
    return float((given == named).mean() - _share(given, named).mean())


def _influence(given: Classes, named: Classes) -> npt.NDArray[np.float64]:
    agreement = (given == named).astype(float)
    influence: npt.NDArray[np.float64] = agreement - _share(given, named) - _share(named, given)
    return influence


def _share(column: Classes, values: Classes) -> npt.NDArray[np.float64]:
    """Return for each of `values` how frequent it is in a column."""
    found, counts = np.unique(column, return_counts=True)
    place = np.clip(np.searchsorted(found, values), 0, len(found) - 1)
    share: npt.NDArray[np.float64] = np.where(found[place] == values, counts[place], 0) / len(
        column
    )
    return share


def exchange(given: Classes, labels: Classes) -> Classes | None:
    """Return each clip's label under the best one-to-one exchange; None if none is credible.

    Fitted on the other half of the clips. Only whole cycles of classes are exchanged, each
    called by the next one's name in most of its clips.
    """
    size = int(max(given.max(), labels.max())) + 1
    halves = _halves(labels)
    whole = _counts(given, labels, size)
    most = whole.max(axis=1).sum()
    if most - np.trace(whole) < LEAD * len(labels):
        return None  # no exchange can lead by enough, so none is looked for
    named = labels.copy()
    for fit, read in (halves, halves[::-1]):
        moves = _cycles(_counts(given[fit], labels[fit], size))
        named[read] = moves[labels[read]]
    credible = (named == given).sum() >= EXPLAINED * most
    return named if credible and (named != labels).any() else None


def _cycles(counts: Classes) -> Classes:
    """Return what each class is called: itself, unless it is in a whole cycle of exchanges."""
    from scipy.optimize import linear_sum_assignment

    own = np.arange(len(counts))
    _, called = linear_sum_assignment(counts + 0.5 * np.eye(len(counts)), maximize=True)
    moves = np.where(_is_most(counts, called), called, own)
    while True:
        moved = set(own[moves != own].tolist())
        open_ends = [c for c in moved if int(moves[c]) not in moved]
        if not open_ends:
            return np.asarray(moves, dtype=np.int64)
        moves[open_ends] = open_ends


def _is_most(counts: Classes, called: Classes) -> npt.NDArray[np.bool_]:
    """Whether most clips of a class are called so, and few by its own name, by class."""
    clips = counts[np.arange(len(counts)), called]
    own, all_clips = np.diag(counts), counts.sum(axis=1)
    most: npt.NDArray[np.bool_] = (clips >= MOVED_CLIPS) & (clips >= MOVED_SHARE * all_clips)
    few: npt.NDArray[np.bool_] = own <= MOVED_SHARE / 2 * all_clips
    return np.logical_and(most, few)


def regroup(given: Classes, truth: Classes, labels: Classes) -> Classes | None:
    """Return each clip's coarse class under the grouping that the predictions follow.

    Fitted on the other half of the clips. A weak coarse classifier also puts fine classes under a
    coarse class that it prefers; but it wavers, and it does so with all fine classes of a
    coarse class. So a fine class only moves if nearly none of its clips are put under its own
    coarse class, and if that is found for the fine classes that stay in it.

    Returns:
        None where nothing moves, or the grouping explains too little.
    """
    if not len(given):
        return None
    fine, coarse = int(labels.max()) + 1, int(max(given.max(), truth.max())) + 1
    parents = np.zeros(fine, dtype=np.int64)
    parents[labels] = truth
    halves = _halves(labels)
    named = truth.copy()
    for fit, read in (halves, halves[::-1]):
        counts = np.zeros((fine, coarse), dtype=np.int64)
        np.add.at(counts, (labels[fit], given[fit]), 1)
        named[read] = _moves(counts, parents)[labels[read]]
    explains = (named == given).mean() >= EXPLAINED
    return (
        named if explains and (named == given).mean() >= (truth == given).mean() + 0.05 else None
    )


def _moves(counts: Classes, parents: Classes) -> Classes:
    """Return the coarse class that each fine class is put under.

    Args:
        counts: clips by fine class and predicted coarse class.
    """
    rows = np.arange(len(counts))
    called, clips = counts.argmax(axis=1), counts.sum(axis=1)
    sharp = counts[rows, called] >= SHARP_SHARE * clips
    gone = counts[rows, parents] <= (1 - SHARP_SHARE) / 3 * clips
    moved = (called != parents) & sharp & gone & (clips >= MOVED_CLIPS)
    stays = (called == parents) & sharp & (clips >= MOVED_CLIPS)
    alive = np.union1d(parents[stays], called[moved])
    result: Classes = np.where(moved & np.isin(parents, alive), called, parents)
    return result


def _counts(given: Classes, labels: Classes, size: int) -> Classes:
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (labels, given), 1)
    return counts


def _halves(labels: Classes) -> tuple[Classes, Classes]:
    """Return the indices of both halves, every other clip of each class."""
    order = np.argsort(labels, kind="stable")
    return np.sort(order[::2]), np.sort(order[1::2])


def _changed_classes(labels: Classes, other: Classes, what: str) -> str:
    changed = np.unique(labels[labels != other]).tolist()
    more = ", ..." if len(changed) > _NAMED else ""
    named = ", ".join(map(str, changed[:_NAMED]))
    which = "class" if len(changed) == 1 else "classes"
    return f" ({len(changed)} {which} {what}: {named}{more})"


def _array(column: object) -> Classes:
    return np.asarray(column, dtype=np.int64)
