"""Which differences between trials are real: each pair on the same clips, in one sentence.

Without kept predictions a difference still gets a standard error, from the two readings as if
they were of different clips; where the clips or their store differ, nothing is compared.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from pipeline.plan.verdict import percent
from pipeline.report.stats.readings import Reading, same_store, shown_store
from pipeline.report.stats.significance import LEVEL, McNemar, holm, pair

#: The best trials up to this number are compared each with each, the others with the winner.
MAX_PAIRED_TRIALS = 24


def differences(readings: Sequence[Reading], best: str | None = None) -> list[dict[str, Any]]:
    """Return the comparison of each pair, the better reading first, as `compare --json` has it.

    Args:
        best: the trial that all others are compared with, by default the highest reading. It goes
            first among equals.
    """
    ranked = sorted(readings, key=lambda one: (-one.top1, one.trial != best))
    first = next((at for at, one in enumerate(ranked) if one.trial == best), 0)
    close = range(min(MAX_PAIRED_TRIALS, len(ranked)))
    places = set(itertools.combinations(close, 2))
    places |= {(min(first, at), max(first, at)) for at in range(len(ranked)) if at != first}
    pairs = [(ranked[a], ranked[b]) for a, b in sorted(places)]
    tested = [(a, b, _tested(a, b)) for a, b in pairs]
    p_values = [test.p for _, _, test in tested if isinstance(test, McNemar)]
    corrected = iter(holm(p_values))
    return [
        _record(a, b, test, next(corrected), len(p_values))
        if isinstance(test, McNemar)
        else _untested(a, b, test)
        for a, b, test in tested
    ]


def between(a: Reading | None, b: Reading | None) -> dict[str, Any] | None:
    """Return the comparison of two trials, None if one has measured nothing."""
    return None if a is None or b is None else differences([a, b])[0]


def _tested(a: Reading, b: Reading) -> McNemar | str:
    """Return the test on the same clips, or why the readings are not comparable.

    An empty reason: they are comparable, but predictions are missing.
    """
    apart = not_comparable(a, b)
    if apart is not None:
        return apart
    if a.right is None or b.right is None:
        return ""
    assert a.clips is not None
    return pair(a.right, b.right, a.clips)


def not_comparable(a: Reading, b: Reading) -> str | None:
    """Return why two readings are of different things, None if no reason is known."""
    if a.metric != b.metric:
        return f"they read different metrics ({a.metric}, {b.metric})"
    if not a.yardstick.agrees(b.yardstick):
        return f"they were validated on other clips ({a.yardstick}, {b.yardstick})"
    if not same_store(a.store, b.store):
        stores = " and ".join(shown_store(one.store) for one in (a, b))
        return f"their samples came from different stores ({stores})"
    if a.precision != b.precision:
        return f"they were trained in different precision ({a.precision} and {b.precision})"
    if None not in (a.clips, b.clips) and a.clips != b.clips:
        return f"they were validated on {a.clips} and {b.clips} clips"
    if None not in (a.ids, b.ids) and a.ids != b.ids:
        return "they were validated on different clips"
    return None


def _untested(a: Reading, b: Reading, apart: str) -> dict[str, Any]:
    """Return the comparison of two readings that cannot be compared clip by clip."""
    if apart:
        sentence = f"{a.trial} and {b.trial} are not comparable: {apart}."
        known = {"difference": None, "std_error": None, "sentence": sentence}
        return {**_names(a, b, False), **known}
    errors = [one.std_error for one in (a, b) if one.std_error is not None]
    error = math.hypot(*errors) if len(errors) == 2 else None
    lacks = a if a.right is None else b
    shown = "unknown" if error is None else f"{percent(error)} if the clips were different ones"
    return {
        **_names(a, b, True),
        "difference": a.top1 - b.top1,
        "std_error": error,
        "sentence": f"{a.trial} reads {100 * (a.top1 - b.top1):.2f} points above {b.trial}; the "
        f"standard error of that is {shown}. Not tested clip by clip: {lacks.trial} has no "
        f"predictions ({lacks.lacking}).",
    }


def _record(a: Reading, b: Reading, test: McNemar, p: float, pairs: int) -> dict[str, Any]:
    real = p < LEVEL
    return {
        **_names(a, b, True),
        "clips": test.clips,
        "only_a": test.only_first,
        "only_b": test.only_second,
        "difference": test.difference,
        "std_error": test.std_error,
        "p": test.p,
        "p_adjusted": p,
        "method": "exact" if test.exact else "chi-squared",
        "real": real,
        "sentence": _sentence(a, b, test, p, pairs, real),
    }


def _names(a: Reading, b: Reading, comparable: bool) -> dict[str, Any]:
    empty = ("clips", "only_a", "only_b", "p", "p_adjusted", "method", "real")
    return {"a": a.trial, "b": b.trial, "comparable": comparable, **dict.fromkeys(empty)}


def _sentence(a: Reading, b: Reading, test: McNemar, p: float, pairs: int, real: bool) -> str:
    if test.only_first + test.only_second == 0:
        return f"{a.trial} and {b.trial} are right on exactly the same of {test.clips} clips."
    corrected = f", corrected for {pairs} pairs" if pairs > 1 else ""
    conclusion = "the difference is real" if real else "chance alone can make such a difference"
    return (
        f"{a.trial} reads {100 * test.difference:.2f} ± {100 * test.std_error:.2f} points above "
        f"{b.trial}: {test.only_first} of {test.clips} clips only the first gets right, "
        f"{test.only_second} only the second; {conclusion} (McNemar, {p_is(p)}{corrected})."
    )


def p_is(p: float) -> str:
    """Return a p-value as a sentence has it: "p = 0.031", "p < 0.0001"."""
    return "p < 0.0001" if p < 1e-4 else f"p = {shown_p(p)}"


def shown_p(p: float) -> str:
    """Return a p-value in words: "0.031", "below 0.0001"."""
    return "below 0.0001" if p < 1e-4 else f"{p:.2g}"
