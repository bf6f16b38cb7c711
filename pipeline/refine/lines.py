"""The lines of a refinement: each says what it would choose on some of the clips.

A line is asked three times: on one part of the clips, on the other part, and on all. What it
answers is read on clips that had no part in the choice (`crosswise.py`). Shapes: C clips.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.refine.recipes import ClipReading, Ratio, RefinedRecipe, Weights
from pipeline.report.stats.kept_scores import SHARES, BranchScores, mean_scores
from pipeline.shared.fusion import fuse, guesses, logs

Mask = NDArray[np.bool_]
#: Returns the scores of a reading, making them where they are not there yet.
ReadScores = Callable[[ClipReading], BranchScores]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What a line has chosen.

    Args:
        guess: the class of each clip, (C,).
        tried: settings that were compared.
    """

    recipe: RefinedRecipe
    guess: NDArray[np.int64]
    tried: int


class FusedReadings:
    """Joined readings at the objective's own ratio and at all others, each computed once."""

    def __init__(self, scores: ReadScores, labels: NDArray[np.int64], own_share: float) -> None:
        self.labels, self.own = labels, Ratio(share=own_share)
        self._scores = scores
        self._guesses: dict[tuple[ClipReading, ...], NDArray[np.int64]] = {}
        self._grids: dict[tuple[ClipReading, ...], Mask] = {}

    def own_guess(self, readings: tuple[ClipReading, ...]) -> NDArray[np.int64]:
        """Return the class of each clip at the objective's own ratio, (C,)."""
        if readings not in self._guesses:
            self._guesses[readings] = self.at(readings, self.own)
        return self._guesses[readings]

    def accuracy(self, readings: tuple[ClipReading, ...], part: Mask) -> float:
        """Return the share of right clips in a part at the objective's own ratio."""
        return float((self.own_guess(readings) == self.labels)[part].mean())

    def at(self, readings: tuple[ClipReading, ...], ratio: Ratio) -> NDArray[np.int64]:
        """Return the class of each clip at a ratio, (C,)."""
        joined = fuse(self._branches(readings), ratio.share, ratio.log)
        return np.asarray(guesses(joined), dtype=np.int64)

    def grid(self, readings: tuple[ClipReading, ...]) -> Mask:
        """Return which clips are right: (2, shares, C), for scores and for log-scores."""
        if readings not in self._grids:
            branches = self._branches(readings)
            taken = [branches, {name: logs(table) for name, table in branches.items()}]
            self._grids[readings] = np.stack(
                [[guesses(fuse(one, s)) == self.labels for s in SHARES] for one in taken]
            )
        return self._grids[readings]

    def _branches(self, readings: tuple[ClipReading, ...]) -> dict[str, NDArray[np.float64]]:
        return mean_scores([self._scores(one) for one in readings])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One refinement.

    Args:
        name: as `refine --json` has it.
        tuned: tune the ratio of RGB and pose on top.
    """

    name: str
    fused: FusedReadings
    select: Callable[[Mask], tuple[tuple[ClipReading, ...], int]]
    tuned: bool = False

    def choose(self, part: Mask) -> Choice:
        """Return what this line chooses by the clips of a part."""
        readings, tried = self.select(part)
        if not self.tuned:
            recipe = RefinedRecipe(readings=readings, ratio=self.fused.own)
            return Choice(recipe=recipe, guess=self.fused.own_guess(readings), tried=tried)
        ratio = tune(self.fused.grid(readings), part, self.fused.own.share)
        return Choice(
            recipe=RefinedRecipe(readings=readings, ratio=ratio),
            guess=self.fused.at(readings, ratio),
            tried=tried * 2 * len(SHARES),
        )


def tune(right: Mask, part: Mask, own_share: float) -> Ratio:
    """Return the best ratio on a part of the clips.

    The objective's own where nothing is better; of a flat optimum its middle, and scores before
    log-scores.

    Args:
        right: which clips are right, (2, shares, C).
    """
    counts = right[:, :, part].sum(axis=2)  # (2, shares)
    own = min(range(len(SHARES)), key=lambda i: abs(SHARES[i] - own_share))
    log = int(counts[1].max() > counts[0].max())
    best = counts[log] == counts[log].max()
    runs = _runs(best.tolist())
    start, end = max(runs, key=lambda run: run[1] - run[0])
    if log == 0 and best[own]:
        start, end = next(run for run in runs if run[0] <= own <= run[1])
        return Ratio(share=own_share, flat=(SHARES[start], SHARES[end]))
    middle = SHARES[(start + end) // 2]
    return Ratio(share=middle, log=bool(log), flat=(SHARES[start], SHARES[end]))


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """Return first and last place of each run of true flags."""
    found: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if flag and found and found[-1][1] == i - 1:
            found[-1] = (found[-1][0], i)
        elif flag:
            found.append((i, i))
    return found


def fixed(*readings: ClipReading) -> Callable[[Mask], tuple[tuple[ClipReading, ...], int]]:
    """Return the selection of a line that has nothing to choose."""
    return lambda _part: (readings, 1)


class OneOf:
    """The best of several single readings, the first of equals (the mean of the last k)."""

    def __init__(self, fused: FusedReadings, readings: Sequence[ClipReading]) -> None:
        self._fused, self._readings = fused, readings

    def __call__(self, part: Mask) -> tuple[tuple[ClipReading, ...], int]:
        best = max(self._readings, key=lambda one: self._fused.accuracy((one,), part))
        return (best,), len(self._readings)


class GreedySoup:
    """Weights are added to the mean as long as that is no worse; best trials first.

    Source: Wortsman and others, "Model soups", arXiv 2203.05482, recipe 1.
    """

    def __init__(self, fused: FusedReadings, members: Sequence[Weights]) -> None:
        self._fused, self._members = fused, members

    def __call__(self, part: Mask) -> tuple[tuple[ClipReading, ...], int]:
        alone = [ClipReading(weights=(one,)) for one in self._members]
        ranked = sorted(alone, key=lambda one: -self._fused.accuracy((one,), part))
        soup, tried = ranked[0], 1
        for one in ranked[1:]:
            larger = ClipReading(weights=tuple(sorted((*soup.weights, *one.weights), key=_order)))
            tried += 1
            if self._fused.accuracy((larger,), part) >= self._fused.accuracy((soup,), part):
                soup = larger
        return (soup,), tried


def _order(weights: Weights) -> tuple[str, int]:
    """The same weights in the same order, so that a soup is made once."""
    return weights.trial, weights.epoch


class Ensemble:
    """The mean scores of the k best trials, with the k that reads best."""

    def __init__(self, fused: FusedReadings, members: Sequence[Weights]) -> None:
        self._fused, self._members = fused, members

    def __call__(self, part: Mask) -> tuple[tuple[ClipReading, ...], int]:
        alone = [ClipReading(weights=(one,)) for one in self._members]
        ranked = sorted(alone, key=lambda one: -self._fused.accuracy((one,), part))
        sizes = range(2, len(ranked) + 1)
        joined = [tuple(sorted(ranked[:k], key=lambda r: _order(r.weights[0]))) for k in sizes]
        return max(joined, key=lambda one: self._fused.accuracy(one, part)), len(joined)
