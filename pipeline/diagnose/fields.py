"""The `name: value` fields of one log line, and what makes a number trustworthy.

A log that several processes write into, or that was cut, holds lines that end in the
middle of a number. 0.88 read from 0.8832 is worse than no value, so a number counts only
where the line shows that it is whole.
"""

import re

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)"
_SEPARATOR = re.compile(r"\s{2,}|\t|, ")
_FIELD = re.compile(rf"(.*\S):\s({_NUMBER})")
_OPEN_FIELD = re.compile(r".*\S:")
#: Where another process's line begins inside this one.
_INTRUDER = re.compile(rb"\d{4}[-/]\d\d[-/]\d\d \d\d:\d\d|Epoch[ (]|\x1b")
#: Fields that are about the machine, not about the model.
NOT_METRICS = frozenset(
    {"eta", "time", "data_time", "memory", "lr", "base_lr", "momentum", "iter"}
)


def fields(rest: bytes, whole: bool) -> dict[str, float]:
    """Return the numbers of a line by name.

    Args:
        rest: the line behind its header.
        whole: whether its end was seen; the last number of a cut line is dropped.
    """
    intruder = _INTRUDER.search(rest)
    if intruder:
        rest, whole = rest[: intruder.start()], False
    # An intruder without a space before it may have cut into the last number too, and a
    # carriage return is a progress bar that overwrote the line.
    text = rest.decode("utf-8", "replace").rstrip("\r\n")
    text, bar, _ = text.partition("\r")
    items = [item for item in _SEPARATOR.split(text.strip()) if item]
    found: dict[str, float] = {}
    last: str | None = None
    for item in items:
        match = _FIELD.fullmatch(item.strip())
        if match:
            last = match[1]
            found[last] = float(match[2])
        elif _OPEN_FIELD.fullmatch(item.strip()) or ": " in item:
            # "confusion: " before a tensor's lines, or "eta: 0:05:28": what precedes is whole.
            last = None
        else:
            # No field at all: another writer's text, which may have cut the number before it.
            if last is not None:
                found.pop(last, None)
            last = None
    if (not whole or bar) and last is not None:
        found.pop(last, None)
    return found


def metrics(rest: bytes, whole: bool) -> dict[str, float]:
    """Return only the metrics among the fields of a validation line."""
    return {k: v for k, v in fields(rest, whole).items() if k not in NOT_METRICS}
