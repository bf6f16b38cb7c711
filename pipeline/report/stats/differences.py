"""Which differences between trials are real: each pair on the same clips, in one sentence.

A trial is taken at its best epoch, with the predictions that its validation kept. Where there are
none, the difference still gets a standard error, from the two readings as if they were of
different clips; where the clips or their store differ, there is nothing to compare.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.doubt import standard_error
from pipeline.plan.judge import best
from pipeline.plan.verdict import percent
from pipeline.report.stats.comparability import same, shown_store, store_of
from pipeline.report.stats.mcnemar import LEVEL, McNemar, holm, pair
from pipeline.shared.files import read_json
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec

#: So many of the best trials are compared each with each; the others with the best one.
MAX_PAIRED_TRIALS = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """A trial at its best epoch.

    Args:
        right: one bit a clip, set where the prediction is right; None without predictions.
        ids: digest of the clips.
        lacking: why there are no predictions.
        store: what the samples came from.
    """

    trial: str
    top1: float
    clips: int | None
    right: int | None
    ids: str | None
    lacking: str
    metric: str | None
    store: Mapping[str, Any]

    @property
    def std_error(self) -> float | None:
        """The standard error of the reading."""
        return standard_error(self.top1, self.clips)


def read(folder: Path, trial: str, spec: TrialSpec) -> Reading | None:
    """Return a trial's reading, None if it has measured nothing.

    Args:
        folder: its run directory.
    """
    run = RunDir(folder)
    top = best(run.read_measurements())
    if top is None:
        return None
    facts = read_json(run.facts) or {}
    found, lacking = predictions(run, top.epoch, top.top1)
    if spec.imported:
        lacking = "it was imported from a log"
    clips = len(found.labels) if found else facts.get("val_clips")
    return Reading(
        trial=trial,
        top1=top.top1,
        clips=clips if isinstance(clips, int) and clips > 0 else None,
        right=right_clips(found) if found else None,
        ids=found.ids if found else None,
        lacking=lacking,
        metric=spec.metric,
        store=store_of(spec.data),
    )


def predictions(run: RunDir, epoch: int, top1: float) -> tuple[Predictions | None, str]:
    """Return the predictions of an epoch, or why there are none."""
    file = run.predictions_of(epoch)
    try:
        found = Predictions.from_bytes(file.read_bytes())
    except FileNotFoundError:
        told = (read_json(run.facts) or {}).get("no_predictions")
        return None, str(told) if told else f"none are kept of its epoch {epoch}"
    except (OSError, ValueError) as error:
        return None, f"{file.name} cannot be read ({error})"
    if abs(found.top1 - top1) > 1e-9:
        return None, f"{file.name} is of another run than the measurement"
    return found, ""


def right_clips(found: Predictions) -> int:
    """Return the clips that were predicted right, one bit a clip."""
    pairs = zip(found.predicted, found.labels, strict=True)
    return int("".join("01"[guess == truth] for guess, truth in pairs) or "0", 2)


def differences(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return the comparison of each pair, the better reading first, as `compare --json` has it."""
    ranked = sorted(readings, key=lambda one: -one.top1)
    pairs = list(itertools.combinations(ranked[:MAX_PAIRED_TRIALS], 2))
    pairs += [(ranked[0], other) for other in ranked[MAX_PAIRED_TRIALS:]]
    tested = [(a, b, _tested(a, b)) for a, b in pairs]
    corrected = iter(holm([found.p for _, _, found in tested if isinstance(found, McNemar)]))
    count = sum(isinstance(found, McNemar) for _, _, found in tested)
    return [
        _record(a, b, found, next(corrected), count)
        if isinstance(found, McNemar)
        else _untested(a, b, found)
        for a, b, found in tested
    ]


def between(a: Reading | None, b: Reading | None) -> dict[str, Any] | None:
    """Return the comparison of two trials, None if one has measured nothing."""
    return None if a is None or b is None else differences([a, b])[0]


def _tested(a: Reading, b: Reading) -> McNemar | str:
    """Compare two readings on the same clips, or say why that cannot be done."""
    apart = not_comparable(a, b)
    if apart is not None:
        return apart
    if a.right is None or b.right is None:
        return ""
    assert a.clips is not None
    return pair(a.right, b.right, a.clips)


def not_comparable(a: Reading, b: Reading) -> str | None:
    """Say why two readings are of different things, None if nothing speaks against it."""
    if a.metric != b.metric:
        return f"they read different metrics ({a.metric}, {b.metric})"
    if not same(a.store, b.store):
        told = " and ".join(shown_store(one.store) for one in (a, b))
        return f"their samples came from different stores ({told})"
    if None not in (a.clips, b.clips) and a.clips != b.clips:
        return f"they were validated on {a.clips} and {b.clips} clips"
    if None not in (a.ids, b.ids) and a.ids != b.ids:
        return "they were validated on different clips"
    return None


def _untested(a: Reading, b: Reading, apart: str) -> dict[str, Any]:
    """Return the comparison of two readings that cannot be compared clip by clip."""
    errors = a.std_error, b.std_error
    error = None if None in errors else math.hypot(*(e for e in errors if e is not None))
    off = 100 * (a.top1 - b.top1)
    if apart:
        sentence = f"{a.trial} and {b.trial} are not comparable: {apart}."
    else:
        who = a if a.right is None else b
        told = "unknown" if error is None else f"{percent(error)} if the clips were different ones"
        sentence = (
            f"{a.trial} reads {off:.2f} points above {b.trial}; the standard error of that is "
            f"{told}. Not tested clip by clip: {who.trial} has no predictions ({who.lacking})."
        )
    return {
        **_names(a, b, not apart),
        "difference": None if apart else a.top1 - b.top1,
        "std_error": None if apart else error,
        "sentence": sentence,
    }


def _record(a: Reading, b: Reading, found: McNemar, p: float, count: int) -> dict[str, Any]:
    real = p < LEVEL
    return {
        **_names(a, b, True),
        "clips": found.clips,
        "only_a": found.only_first,
        "only_b": found.only_second,
        "difference": found.difference,
        "std_error": found.std_error,
        "p": found.p,
        "p_adjusted": p,
        "method": "exact" if found.exact else "chi-squared",
        "real": real,
        "sentence": _sentence(a, b, found, p, count, real),
    }


def _names(a: Reading, b: Reading, comparable: bool) -> dict[str, Any]:
    empty = ("clips", "only_a", "only_b", "p", "p_adjusted", "method", "real")
    return {"a": a.trial, "b": b.trial, "comparable": comparable, **dict.fromkeys(empty)}


def _sentence(a: Reading, b: Reading, found: McNemar, p: float, count: int, real: bool) -> str:
    if found.only_first + found.only_second == 0:
        return f"{a.trial} and {b.trial} are right on exactly the same of {found.clips} clips."
    head = (
        f"{a.trial} reads {100 * found.difference:.2f} ± {100 * found.std_error:.2f} points above "
        f"{b.trial}: {found.only_first} of {found.clips} clips only the first gets right, "
        f"{found.only_second} only the second"
    )
    pairs = f", corrected for {count} pairs" if count > 1 else ""
    said = "the difference is real" if real else "chance alone can make such a difference"
    return f"{head}; {said} (McNemar, p = {shown_p(p)}{pairs})."


def shown_p(p: float) -> str:
    """Return a p-value as people read it."""
    return "below 0.0001" if p < 1e-4 else f"{p:.2g}"
