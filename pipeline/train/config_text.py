"""Writes a config as Python text that MMEngine reads back to an equal one.

MMEngine's own writer sorts the keys and formats with yapf (a second or more for a large
config); this one keeps the order and needs milliseconds.
"""

import keyword
import math
from typing import Any, Dict, List, Tuple

from pipeline.train.tools.tool import ToolError

WIDTH = 99
_PLAIN: Tuple[Any, ...] = (bool, int, float, str, bytes, type(None))
_INDENT = "    "


def to_text(config: Dict[str, Any], source: str) -> str:
    """Return the text of a config file that defines exactly the entries of `config`.

    Args:
        source: the file it comes from, for error messages.
    """
    parts = []
    for name, value in config.items():
        if not _is_name(name):
            raise ToolError(f"{source}: the entry {name!r} is not a Python name.")
        try:
            parts.append(f"{name} = {_write(value, '', len(name) + 3, name)}\n")
        except TypeError as error:
            raise ToolError(f"{source}: {error}") from error
    return "".join(parts)


def _write(value: Any, indent: str, used: int, where: str) -> str:
    """Return `value` as Python text: in one line if it fits, else one item a line."""
    if not isinstance(value, (dict, list, tuple)):
        return _atom(value, where)
    inner = indent + _INDENT
    items = _items(value, inner, where)
    opening, closing = _brackets(value)
    single = ", ".join(items)
    if isinstance(value, tuple) and len(items) == 1:
        single += ","
    line = f"{opening}{single}{closing}"
    if "\n" not in line and len(indent) + used + len(line) <= WIDTH:
        return line
    body = "".join(f"{inner}{item},\n" for item in items)
    return f"{opening}\n{body}{indent}{closing}"


def _items(value: Any, indent: str, where: str) -> List[str]:
    if not isinstance(value, dict):
        return [_write(v, indent, 1, f"{where}.{i}") for i, v in enumerate(value)]
    named = all(_is_name(key) for key in value)
    items = []
    for key, item in value.items():
        start = f"{key}=" if named else f"{_atom(key, where)}: "
        items.append(start + _write(item, indent, len(start) + 1, f"{where}.{key}"))
    return items


def _brackets(value: Any) -> Tuple[str, str]:
    if isinstance(value, dict):
        return ("dict(", ")") if all(_is_name(key) for key in value) else ("{", "}")
    return ("[", "]") if isinstance(value, list) else ("(", ")")


def _atom(value: Any, where: str) -> str:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a number of NumPy or torch
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, type):
        return repr(f"{value.__module__}.{value.__qualname__}")
    plain = next((kind for kind in _PLAIN if isinstance(value, kind)), None)
    if plain is not None:
        # MMEngine replaces {{ ... }} while it reads; two literals side by side are one text.
        # The repr of a subclass, such as an enum's, is no literal.
        text = _double_quoted(plain.__repr__(value))
        return text.replace("{{", "{" + text[-1] + " " + text[-1] + "{")
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({sorted(value, key=repr)!r})"
    raise TypeError(
        f"{where} is {value!r} ({type(value).__name__}), which no config file can hold. "
        "Write a number, a text, a list or a dict."
    )


def _double_quoted(text: str) -> str:
    """Return a literal in double quotes where that needs no escapes."""
    if text.startswith("'") and '"' not in text and "\\'" not in text:
        return '"' + text[1:-1] + '"'
    return text


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
