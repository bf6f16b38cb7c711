"""Golden files: what users, scripts and old folders rely on, written down before a redesign."""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
HOW = (
    "\n\nThis is a public surface; changing it is a decision. If it is meant: run "
    "`PCAN_GOLDEN=write pytest tests/surface`, read the difference of tests/surface/golden, and "
    "say why in docs/decisions."
)
#: Objects whose keys are names of the user's (paths, metrics, labels), not of ours.
MAPS = frozenset(
    ("extra", "params", "values", "overrides", "branches", "frames", "prototypes", "versions")
)
_OUR_KEY = re.compile(r"[a-z][a-z0-9_]*")

Shape = dict[str, str]


def hold(name: str, now: Any) -> None:
    """Compare with `golden/NAME.json`, or write it where PCAN_GOLDEN=write asks for that."""
    file = GOLDEN / f"{name}.json"
    if os.environ.get("PCAN_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    assert now == before, f"{file.name} no longer holds:\n{_difference(before, now)}{HOW}"


def hold_shapes(name: str, now: Mapping[str, Shape]) -> None:
    """The same for several shapes; a value that is null this time may be anything else."""
    if os.environ.get("PCAN_GOLDEN") == "write":
        hold(name, now)
        return
    before = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    hold(name, {one: _settled(before.get(one, {}), shape) for one, shape in now.items()})


def within(name: str, part: str, now: Shape) -> None:
    """Check that every key of a shape is known, for records that hold fewer than they may."""
    before = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))[part]
    unknown = sorted(set(_settled(before, now).items()) - set(before.items()))
    assert not unknown, f"{part} in {name}.json does not have {unknown}{HOW}"


def shape(*records: Any) -> Shape:
    """Return every key path of JSON values with its types; the items of a list are one."""
    found: dict[str, set[str]] = {}
    for record in records:
        _walk(record, "", found)
    return {path: "|".join(sorted(kinds)) for path, kinds in sorted(found.items())}


def _walk(value: Any, path: str, found: dict[str, set[str]]) -> None:
    found.setdefault(path or ".", set()).add(_kind(value))
    if isinstance(value, Mapping):
        free = path.rpartition(".")[2].removesuffix("[]") in MAPS
        for key, item in value.items():
            known = _OUR_KEY.fullmatch(key) and not free
            _walk(item, f"{path}.{key if known else '*'}".lstrip("."), found)
    elif isinstance(value, list | tuple):
        for item in value:
            _walk(item, f"{path}[]", found)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in ((bool, "boolean"), (str, "string"), (Mapping, "object")):
        if isinstance(value, kind):
            return name
    return "number" if isinstance(value, int | float) else "list"


def _settled(before: Shape, now: Shape) -> Shape:
    """Take the golden types of keys whose types now are among them, or null on either side."""
    settled = {}
    for path, kinds in now.items():
        allowed = set(before.get(path, kinds).split("|")) | {"null"}
        fits = before.get(path) == "null" or set(kinds.split("|")) <= allowed
        settled[path] = before.get(path, kinds) if fits else kinds
    return settled


def _difference(before: Any, now: Any) -> str:
    old, new = (json.dumps(v, indent=1, sort_keys=True).splitlines() for v in (before, now))
    return "\n".join(_changed(difflib.unified_diff(old, new, "golden", "now", lineterm="", n=2)))


def _changed(lines: Iterable[str]) -> list[str]:
    shown = list(lines)
    return shown if len(shown) <= 80 else [*shown[:80], f"... and {len(shown) - 80} lines more"]
