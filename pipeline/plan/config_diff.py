"""What one variant's config has otherwise than another's, from what each changes on the base."""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol


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


def differences(one: Iterable[ChangeLike], other: Iterable[ChangeLike]) -> list[Difference]:
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
