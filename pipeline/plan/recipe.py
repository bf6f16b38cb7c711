"""What a variant's recipe sets, by path of the config, and where two variants' configs differ."""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from pipeline.plan.search.space import applicable
from pipeline.plan.sweep import Variant

MISSING = object()


def recipe_value(variant: Variant, path: str) -> Any:
    """Return what the recipe sets at a config path, also inside a list or mapping it sets.

    Returns MISSING when the recipe leaves the path to the base config.
    """
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        value = variant.set.get(".".join(parts[:length]), MISSING)
        if value is not MISSING:
            return _value_at(value, parts[length:])
    return MISSING


def recipe_values(variant: Variant) -> dict[str, Any]:
    """Return what the recipe sets at the paths of its space, where they apply."""
    values = {path: recipe_value(variant, path) for path in variant.space}
    return applicable(variant.space, {p: v for p, v in values.items() if v is not MISSING})


def _value_at(value: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return MISSING
    return value


def overlay(inherited: Any, named: dict[str, Any]) -> dict[str, Any]:
    """Lay the named paths over the inherited ones; a whole value replaces its parts."""
    kept = {
        path: value
        for path, value in inherited.items()
        if not any(path == new or path.startswith(new + ".") for new in named)
    }
    return {**kept, **named}


class ChangeLike(Protocol):
    """A config path with its value in the base config and in the variant."""

    @property
    def path(self) -> str: ...
    @property
    def old(self) -> Any: ...
    @property
    def new(self) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Difference:
    """One config path whose values differ."""

    path: str
    old: Any
    new: Any


def config_differences(one: Iterable[ChangeLike], other: Iterable[ChangeLike]) -> list[Difference]:
    """Return where two variants differ, as deep as their values have the same shape.

    Args:
        one: what the first changes on the base config.
        other: what the second changes on the same base config.
    """
    first = {change.path: change for change in one}
    second = {change.path: change for change in other}
    roots = [p for p in (*first, *second) if not any(_inside(p, q) for q in (*first, *second))]
    found: list[Difference] = []
    for root in dict.fromkeys(roots):
        base = (first.get(root) or second[root]).old
        found += _compare(_applied(base, root, first), _applied(base, root, second), root)
    return found


def beyond(changed: Iterable[Difference], named: Mapping[str, Any]) -> list[str]:
    """Return the changed paths that no named path covers."""
    return [
        d.path
        for d in changed
        if not any(
            d.path == name or _inside(d.path, name) or _inside(name, d.path) for name in named
        )
    ]


def _inside(path: str, other: str) -> bool:
    return path.startswith(other + ".")


def _applied(base: Any, root: str, changes: Mapping[str, ChangeLike]) -> Any:
    if root in changes:
        return changes[root].new
    value = copy.deepcopy(base)
    for path, change in changes.items():
        if _inside(path, root):
            _put(value, path[len(root) + 1 :].split("."), change.new)
    return value


def _put(node: Any, parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        node = node[int(part)] if isinstance(node, list) else node[part]
    last = parts[-1]
    node[int(last) if isinstance(node, list) else last] = value


def _compare(old: Any, new: Any, path: str) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict) and set(old) == set(new):
        for key in old:
            yield from _compare(old[key], new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _compare(a, b, f"{path}.{i}")
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Difference(path, old, new)
