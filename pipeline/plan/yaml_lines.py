"""Strict YAML with line numbers: what a sweep file may hold, and where each key stands.

Stricter than YAML 1.1 where that silently loses meaning: a key given twice, `3e-3` read
as text, `no` read as false, `1:30` read as 90, dates, tags, anchors. Nothing is executed.
"""

import re
import unicodedata
from typing import Any

import yaml

from pipeline.errors import SweepFileError

#: A sweep file is written by hand; anything larger is a mistake or an attack.
MAX_BYTES = 1_000_000
MAX_DEPTH = 20

KeyPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9][0-9_]*\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?\Z")
#: Never meant: they end a path early, or move the cursor of a terminal that shows the text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SPECIAL = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


def load(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """Parse one YAML document.

    Args:
        text: the document.
        name: the file's name, for messages.

    Returns:
        The value (dicts, lists, str, int, float, bool, None), and the line (1-based) of every
        key path, the empty path included.

    Raises:
        SweepFileError: with file:line, for bad syntax and everything named above.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise SweepFileError(f"{name}:{_syntax(error, text)}") from None
    except RecursionError:
        raise SweepFileError(f"{name}: nested deeper than {MAX_DEPTH} levels.") from None
    except yaml.YAMLError as error:
        raise SweepFileError(f"{name}: {' '.join(str(error).split())}.") from None
    if node is None:
        raise SweepFileError(f"{name}: the file is empty.")
    lines: dict[KeyPath, int] = {}
    value = _Reader(name, lines).read(node, (), set())
    return value, lines


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return line, column, what is wrong with them and what would be right."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "not valid YAML"
    if error.context and error.context_mark and problem == "could not find expected ':'":
        # PyYAML points at the line after the one that has no colon.
        line = error.context_mark.line
        written = text.splitlines()[line].strip()[:60]
        return f'{line + 1}: "{written}" is no "key: value"; write a plain colon and a space.'
    where = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
    if "another document" in problem:
        return f"{where}: a second document begins (---); a sweep file has one."
    instead = " Indent with spaces, never with tabs." if "'\\t'" in problem else ""
    return f"{where}: {problem}.{instead}"


def line_of(lines: dict[KeyPath, int], keys: KeyPath) -> int:
    """Return the line of a key path, or of the nearest key around it."""
    while keys not in lines and keys:
        keys = keys[:-1]
    return lines.get(keys, 1)


class _Reader:
    """Turns nodes into values and notes the lines."""

    def __init__(self, name: str, lines: dict[KeyPath, int]) -> None:
        self._name = name
        self._lines = lines

    def read(self, node: yaml.Node, path: KeyPath, seen: set[int]) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        if id(node) in seen:
            raise self._error(line, "anchors and aliases are not used here; write the value out")
        seen.add(id(node))
        if len(path) > MAX_DEPTH:
            raise self._error(line, f"nested deeper than {MAX_DEPTH} levels")
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise self._error(line, f"the tag {node.tag} is not allowed; write a plain value")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, seen)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i), seen) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if _CONTROL.search(node.value):
            raise self._error(line, "a text holds a control character; take it out")
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, seen: set[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(line, "a key must be plain text")
            key = key_node.value
            if _CONTROL.search(key):
                raise self._error(line, "a key holds a control character; take it out")
            if key != _plain(key):
                unseen = f'the key "{key}" holds a character that only looks like a plain one'
                raise self._error(line, f'{unseen}; write "{_plain(key)}"')
            if key in found:
                first = self._lines[(*path, key)]
                raise self._error(line, f'duplicate key "{key}", first given at line {first}')
            self._lines[(*path, key)] = line
            found[key] = self.read(value_node, (*path, key), seen)
        return found

    def _error(self, line: int, problem: str) -> SweepFileError:
        return SweepFileError(f"{self._name}:{line}: {problem}.")


def _plain(key: str) -> str:
    """Return a key as typed on a plain keyboard: no full-width letters, no unseen characters."""
    plain = unicodedata.normalize("NFKC", key)
    return "".join(c for c in plain if unicodedata.category(c) != "Cf").strip()


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    if node.style is not None:  # quoted or block text stays text
        return text
    if text.lower() in _SPECIAL:
        return _SPECIAL[text.lower()]
    try:
        if _INT.match(text):
            return int(text)
        if _FLOAT.match(text):
            return float(text)
    except ValueError:  # 1__0, or more digits than Python turns into a number
        return text
    return text
