"""The winner's number without the luck of choosing it: what it would read on new clips.

The best of many readings is partly the luckiest. As in bias-corrected cross-validation, the choice
is repeated on clips drawn with replacement (about 63 % of them come up), and what it chose is read
on the clips that did not come up, which had no part in the choice. The mean of those readings is
what to expect; the same clips serve all trials, so trials that fail on the same clips count as
hardly different. No model is trained again.

Source: Tsamardinos, Greasidou and Borboudakis, Machine Learning 107 (2018), "Bootstrapping the
out-of-sample predictions for efficient and accurate cross-validation". Their interval, quantiles
of the readings above, is too wide here, because each is of a third of the clips; Wilson's interval
of a proportion at the mean is taken instead (docs/honest-numbers.md has the coverage of both).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

from pipeline.plan.verdict import percent
from pipeline.report.stats.differences import not_comparable
from pipeline.report.stats.readings import Reading

#: How often the choice is repeated; the mean then varies by a few hundredths of a point.
DRAWS = 1000
#: Choices repeated at once, which bounds the memory.
CHUNK = 50
#: The 95 % point of the normal distribution: nine of ten intervals hold the true value.
NORMAL = 1.6448536269514722
#: How a trial can be chosen otherwise than by its reading.
CHOSEN_BY_HAND = "chosen by hand"
CHOSEN_BY_MEAN = "chosen by its mean over new seeds"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedReading:
    """What a chosen trial is expected to read on new clips.

    Args:
        mean: a fraction.
        low: lower end of its 90 % interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def expected_on_new_clips(right: Sequence[int], clips: int, draws: int = DRAWS) -> ExpectedReading:
    """Return what the best of several trials is expected to read on new clips.

    Args:
        right: of each trial, the clips it gets right, one bit a clip.
    """
    mean = _mean_left_out(tuple(right), clips, draws)
    low, high = wilson(mean, clips)
    return ExpectedReading(mean=mean, low=low, high=high)


@functools.lru_cache(maxsize=8)  # a page that is served asks again every few seconds
def _mean_left_out(right: tuple[int, ...], clips: int, draws: int) -> float:
    """Return the mean reading of the best of drawn clips on those that were not drawn."""
    import numpy as np  # only this needs it; importing it takes a tenth of a second

    rows = [np.frombuffer(format(one, f"0{clips}b").encode(), dtype=np.uint8) for one in right]
    table = (np.stack(rows) == ord("1")).astype(np.float32)  # (trials, clips)
    rng = np.random.default_rng(0)
    readings: list[float] = []
    for start in range(0, draws, CHUNK):
        some = min(CHUNK, draws - start)
        picked = rng.integers(clips, size=(some, clips)) + clips * np.arange(some)[:, None]
        drawn = np.bincount(picked.ravel(), minlength=some * clips).reshape(some, clips)
        # By chance among equals: any fixed order might know of the clips left out.
        equals = rng.random((some, len(right)), dtype=np.float32) / 2
        chosen = (drawn.astype(np.float32) @ table.T + equals).argmax(axis=1)
        left_out = drawn == 0
        counts = left_out.sum(axis=1)
        hits = (left_out * table[chosen]).sum(axis=1)
        readings += (hits[counts > 0] / counts[counts > 0]).tolist()
    return math.fsum(readings) / len(readings)


def wilson(share: float, count: int, quantile: float = NORMAL) -> tuple[float, float]:
    """Return Wilson's interval of a proportion, 90 % of the time around the true one.

    Source: Wilson, Journal of the American Statistical Association 22 (1927).
    """
    square = quantile * quantile / count
    centre = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(share * (1 - share) / count + square / count / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def winner_record(
    winner: Reading, others: Sequence[Reading], not_by_reading: str = ""
) -> dict[str, Any] | None:
    """Return what the winner is expected to read on new clips, as `best.json` has it.

    None where there was no other trial to choose.

    Args:
        others: the readings of the other trials it was chosen among.
        not_by_reading: how it was chosen where that was not by its reading.
    """
    if not others:
        return None
    empty = dict.fromkeys(("expected", "low", "high", "clips"))
    found = {"trial": winner.trial, "read": winner.top1, "among": 1 + len(others), **empty}
    if not_by_reading:
        return {**found, "sentence": _unknown(winner, f"it was {not_by_reading}")}
    if winner.right is None or winner.clips is None:
        why = f"{winner.trial} has no predictions ({winner.lacking})"
        return {**found, "sentence": _unknown(winner, why)}
    usable = [one for one in others if one.right is not None and not not_comparable(winner, one)]
    if not usable:
        why = f"no other trial has predictions on the same clips ({_reason(winner, others[0])})"
        return {**found, "sentence": _unknown(winner, why)}
    bits = [one.right for one in (winner, *usable) if one.right is not None]
    result = expected_on_new_clips(bits, winner.clips)
    found |= {"expected": result.mean, "low": result.low, "high": result.high}
    found |= {"clips": winner.clips, "among": len(bits)}
    return {**found, "sentence": _sentence(winner, result, len(bits), len(others) - len(usable))}


def _sentence(winner: Reading, result: ExpectedReading, among: int, missing: int) -> str:
    left_out = f"; {missing} more could not be compared" if missing else ""
    return (
        f"{winner.trial} read {percent(winner.top1, 1)}, expected on new clips "
        f"{percent(result.mean, 1)} (90 % interval {100 * result.low:.1f} to "
        f"{100 * result.high:.1f}): the best of {among} readings of {winner.clips} clips is "
        f"partly luck{left_out}."
    )


def _unknown(winner: Reading, why: str) -> str:
    return f"What {winner.trial} would read on new clips is unknown: {why}."


def _reason(winner: Reading, other: Reading) -> str:
    return not_comparable(winner, other) or f"{other.trial}: {other.lacking}"
