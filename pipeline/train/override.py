"""Overrides by dotted path: apply them, and list what they changed."""

import difflib
from typing import Any, Dict, Iterable, Iterator, List, Tuple


def apply(config: Dict[str, Any], overrides: Dict[str, Any]) -> List[str]:
    """Set each dotted path in `config` to its value, in place.

    A path has to exist; numbers in it are places in a list. Short paths go first, so that
    one may replace a whole value and another change a part of the new one.

    Returns:
        The paths that do not exist, in the order given; nothing is done about them.
    """
    missing = set()
    for path in sorted(overrides, key=lambda name: name.count(".")):
        try:
            _set(config, path.split("."), overrides[path])
        except LookupError:
            missing.add(path)
    return [path for path in overrides if path in missing]


def _set(node: Any, keys: List[str], value: Any) -> Any:
    """Return `node` with the value set: the same object, or a new one for a tuple."""
    key = _key_of(node, keys[0])
    new = _like(node[key], value) if len(keys) == 1 else _set(node[key], keys[1:], value)
    if isinstance(node, tuple):
        return node[:key] + (new,) + node[key + 1 :]
    node[key] = new
    return node


def _like(old: Any, new: Any) -> Any:
    """Make a list a tuple where it replaces one; YAML has none, and Resize wants its scale so."""
    return tuple(new) if isinstance(old, tuple) and isinstance(new, list) else new


def _key_of(node: Any, word: str) -> Any:
    """Return the key that `word` means in `node`; raise LookupError if it has no such key."""
    if isinstance(node, dict):
        if word in node:
            return word
    elif isinstance(node, (list, tuple)) and word.isdecimal() and int(word) < len(node):
        return int(word)
    raise LookupError(word)


def changes(old: Any, new: Any) -> List[Dict[str, Any]]:
    """Return what differs, as `{"path", "old", "new"}`, as deep as the shapes agree."""
    return [{"path": p, "old": o, "new": n} for p, o, n in _differences(old, new, "")]


def _differences(old: Any, new: Any, path: str) -> Iterator[Tuple[str, Any, Any]]:
    pairs = _parts(old, new)
    if pairs is None:
        if not _same(old, new):
            yield path, old, new
        return
    for key, one, other in pairs:
        yield from _differences(one, other, f"{path}.{key}" if path else str(key))


def _parts(old: Any, new: Any) -> Any:
    """Return (key, old, new) of two values of one shape; None if they are compared whole."""
    if isinstance(old, dict) and isinstance(new, dict) and set(old) == set(new):
        return [(key, old[key], new[key]) for key in old]
    lists = isinstance(old, (list, tuple)) and isinstance(new, (list, tuple))
    if lists and len(old) == len(new):
        return [(i, one, other) for i, (one, other) in enumerate(zip(old, new))]
    return None


def _same(old: Any, new: Any) -> bool:
    # True == 1 in Python, but not to a model.
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def nearest(config: Dict[str, Any], path: str) -> Any:
    """Return the existing path that is most like `path`, or None."""
    found = difflib.get_close_matches(path, list(_paths(config, "")), n=1, cutoff=0.6)
    return found[0] if found else None


def _paths(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        items: Iterable[Tuple[Any, Any]] = node.items()
    elif isinstance(node, (list, tuple)):
        items = ((str(i), item) for i, item in enumerate(node))
    else:
        return
    for key, value in items:
        path = f"{prefix}.{key}" if prefix else str(key)
        yield path
        yield from _paths(value, path)
