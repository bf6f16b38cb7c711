"""Read every line on clips that had no part in its choice, and choose one line likewise.

The clips are cut into two parts, by person where that is known. What a line chooses on one part is
read on the other, and both readings together are its top-1. The line that is exported is chosen in
the same way: on each part the best line, read on the other part. That one reading is held against
the plain winner (McNemar), so neither a tuned ratio nor the best of many lines can win by its own
luck, and no correction for the number of lines is needed.
"""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.refine.lines import Choice, Line, Mask
from pipeline.report.stats.significance import LEVEL, McNemar

#: A person in the name of a clip: NTU's S001C002P003R002A001, UTD-MHAD's a1_s2_t3.
_PERSON = (re.compile(r"S\d{3}C\d{3}(P\d{3})R\d{3}"), re.compile(r"^a\d+_(s\d+)_t\d+"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossReading:
    """A line's reading on all clips, each by the choice made without it.

    Args:
        final: what the line chooses by all clips; the one that is exported.
        against: the comparison with the plain winner on the same clips.
    """

    line: Line
    final: Choice
    guess: NDArray[np.int64]
    top1: float
    against: McNemar


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossResult:
    """All lines, and the choice among them.

    Args:
        readings: in the order of the lines, the plain winner first.
        chosen: place of the line to export; 0, the plain winner, where none is better.
        best: place of the line that reads best on all clips.
        top1: what the choosing of a line reads, crosswise.
        against: that reading's comparison with the plain winner.
    """

    readings: Sequence[CrossReading]
    chosen: int
    best: int
    top1: float
    against: McNemar

    @property
    def better(self) -> bool:
        """Whether choosing a line beats the plain winner beyond noise."""
        return self.against.p < LEVEL and self.against.difference > 0


def read_crosswise(lines: Sequence[Line], labels: NDArray[np.int64], first: Mask) -> CrossResult:
    """Read all lines crosswise.

    Args:
        lines: the plain winner first, then simpler ones before others: equals go to the first.
        labels: true classes, (C,).
        first: which clips belong to the first part, (C,).
    """
    parts = (first, ~first)
    everything = np.ones_like(first)
    choices = [[line.choose(part) for part in parts] for line in lines]
    finals = [line.choose(everything) for line in lines]
    plain = finals[0].guess == labels
    readings = []
    for line, final, (one, two) in zip(lines, finals, choices, strict=True):
        guess = np.where(first, two.guess, one.guess)
        right = guess == labels
        reading = CrossReading(
            line=line,
            final=final,
            guess=guess,
            top1=float(right.mean()),
            against=against(right, plain),
        )
        readings.append(reading)
    picked = [_best([row[p].guess for row in choices], labels, parts[p]) for p in (0, 1)]
    guess = np.where(first, choices[picked[1]][1].guess, choices[picked[0]][0].guess)
    right = guess == labels
    best = _best([final.guess for final in finals], labels, everything)
    judged = CrossResult(
        readings=readings,
        chosen=0,
        best=best,
        top1=float(right.mean()),
        against=against(right, plain),
    )
    return dataclasses.replace(judged, chosen=best) if judged.better else judged


def against(right: Mask, plain: Mask) -> McNemar:
    """Return the comparison of two readings from the clips that each gets right."""
    return McNemar(
        clips=len(plain),
        only_first=int((right & ~plain).sum()),
        only_second=int((plain & ~right).sum()),
    )


def _best(guesses: Sequence[NDArray[np.int64]], labels: NDArray[np.int64], part: Mask) -> int:
    counts = [int((guess == labels)[part].sum()) for guess in guesses]
    return counts.index(max(counts))


def halves(names: Sequence[str], people: Sequence[str]) -> tuple[Mask, str]:
    """Return which clips belong to the first part, and what they were cut by, in words.

    Two parts share no person where the annotation or the clips' names tell who is seen; else a
    digest of each clip's name decides, which is the same on every machine.
    """
    who = [person or person_in(name) for name, person in zip(names, people, strict=True)]
    counts = Counter(who)
    if "" not in counts and len(counts) > 1:
        sizes, part_of = [0, 0], {}
        for person in sorted(counts, key=lambda one: (-counts[one], _digest(one))):
            part_of[person] = int(sizes[1] < sizes[0])
            sizes[part_of[person]] += counts[person]
        return np.array([part_of[one] == 0 for one in who]), f"{len(counts)} people"
    order = sorted(range(len(names)), key=lambda i: _digest(f"{names[i]} {i}"))
    first = np.zeros(len(names), dtype=np.bool_)
    first[order[::2]] = True
    return first, "a digest of each clip's name"


def person_in(name: str) -> str:
    """Return the person in a clip's name, "" without one."""
    found = next((m.group(1) for one in _PERSON if (m := one.search(name))), "")
    return str(found)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
