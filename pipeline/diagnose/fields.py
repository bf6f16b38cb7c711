"""The `name: value` fields of one log line, and which numbers can be trusted.

A log that several processes write, or that was cut, has lines that end in the middle of a
number. 0.88 read from 0.8832 is worse than no value, so a number counts only if the line
shows that it is complete.
"""

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)"
_SEPARATOR = re.compile(r"\s{2,}|\t|, ")
_FIELD = re.compile(rf"(.*\S):\s({_NUMBER})")
#: "acc/RGBPose_1:1_top1", "coco/AP .5", in any alphabet: spaces occur, brackets and double spaces
#: do not.
_NAME = re.compile(r"[^\W\d](?:[\w./:@%+()=-]| (?! )){0,119}")
#: "confusion:" before a tensor's lines, "eta: 0:05:28": not a number, but a field.
_OTHER_FIELD = re.compile(r"\S+:|\S+: \S.*")
#: Where another process's line begins inside this one.
_INTRUDER = re.compile(rb"\d{4}[-/]\d\d[-/]\d\d \d\d:\d\d|Epoch[ (]|\x1b")
#: Stands for the decimals of a number that is not printed with a fixed count of them.
_FREE = 99
#: Fields about the machine, not about the model.
NOT_METRICS = frozenset(
    {"eta", "time", "data_time", "memory", "lr", "base_lr", "momentum", "iter", "step"}
)


def fields(rest: bytes, whole: bool) -> dict[str, float]:
    """Return the numbers of a line by name.

    Args:
        rest: the line behind its header.
        whole: whether its end was read; the last number of a cut line is dropped.
    """
    intruder = _INTRUDER.search(rest)
    if intruder:
        rest, whole = rest[: intruder.start()], False
    # A carriage return inside is a progress bar that overwrote the rest.
    text, bar, _ = rest.decode("utf-8", "replace").rstrip("\r\n").partition("\r")
    numbers: dict[str, str] = {}
    last: str | None = None
    for item in filter(None, _SEPARATOR.split(text.strip())):
        match = _FIELD.fullmatch(item.strip())
        if match and ": " not in match[1]:
            last = match[1]
            numbers[last] = match[2]
        elif _OTHER_FIELD.fullmatch(item.strip()):
            if last is not None and _may_be_cut(last, numbers):
                del numbers[last]
            last = None
        else:
            # Another writer's text: it may have cut the number before it, and what
            # follows may be the rest of any line.
            whole = False
            break
    if last is not None and (not whole or bar or _may_be_cut(last, numbers)):
        del numbers[last]
    return {name: float(number) for name, number in numbers.items()}


def _may_be_cut(last: str, numbers: dict[str, str]) -> bool:
    """Whether a number that no other number follows has fewer digits than its neighbours.

    Programs print all numbers of a line with the same number of decimals (four by
    default); a line break in the middle of one leaves fewer.
    """
    others = [_decimals(number) for name, number in numbers.items() if name != last]
    return _decimals(numbers[last]) < max((n for n in others if 0 < n < _FREE), default=4)


def _decimals(number: str) -> int:
    if "e" in number.lower() or number.lstrip("+-") in ("nan", "inf"):
        return _FREE
    return len(number.partition(".")[2])


def is_metric(name: str) -> bool:
    """Whether a name can be that of a validation metric: not about the machine, not torn text."""
    return name not in NOT_METRICS and _NAME.fullmatch(name) is not None


def metrics(rest: bytes, whole: bool) -> dict[str, float]:
    """Return only the metrics among the fields of a validation line."""
    return {name: value for name, value in fields(rest, whole).items() if is_metric(name)}


_TRAIN_TOP1 = re.compile(r"top[-_]?1(?!\d)", re.IGNORECASE)
_PART = re.compile(r"rgb(?!pose)|pose(?<!rgbpose)|coarse", re.IGNORECASE)


def training_top1(values: Mapping[str, Any]) -> float | None:
    """Return the training accuracy among the values of one logged iteration.

    A model with branches logs one for each branch; where it logs none of the whole, their mean
    counts. The accuracy of coarse classes is another question and is left out.
    """
    named = {
        name: float(value)
        for name, value in values.items()
        if is_number(value) and _TRAIN_TOP1.search(name) and "coarse" not in name.lower()
    }
    of_the_whole = [value for name, value in named.items() if not _PART.search(name)]
    if of_the_whole:
        return of_the_whole[0]
    return sum(named.values()) / len(named) if named else None


def is_number(value: Any) -> bool:
    """Whether a value read from JSON or a config is a number; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: Any) -> float | None:
    """Return a value as a float, None if it is not a number or too large for one."""
    try:
        return float(value) if is_number(value) else None
    except OverflowError:
        return None


def whole(value: Any, least: int = 1) -> int | None:
    """Return a value if it is a whole number of at least `least`, else None."""
    return value if isinstance(value, int) and is_number(value) and value >= least else None
