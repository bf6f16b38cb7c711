"""Read and check a sweep file: YAML in, `Sweep` out, or one sentence with file:line.

Checks all that the file alone can show. What needs the base config (do the paths exist, is
every gate's epoch validated) is checked by `config_checks.py` once that config is resolved.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import SweepFileError
from pipeline.plan.sweep import Sweep, SweepFile
from pipeline.plan.sweep_types import BEST_KNOWN, Strict
from pipeline.plan.variants import Resolver
from pipeline.plan.yaml_lines import MAX_BYTES, KeyPath, line_of, load


def read_sweep(path: Path, root: Path) -> Sweep:
    """Read a sweep file.

    Args:
        path: the YAML file.
        root: the project's folder; paths in the file are relative to it.

    Raises:
        SweepFileError: the first thing that is wrong, with file:line and what would be right.
    """
    shown = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    value, lines = load(_text(path, shown), shown)
    if not isinstance(value, dict):
        raise SweepFileError(f"{shown}:1: a sweep file is a mapping of keys, starting with name.")
    try:
        file = SweepFile.model_validate(value, context={BEST_KNOWN: _best_known(value)})
    except ValidationError as error:
        raise SweepFileError(_sentence(error, shown, lines)) from None
    return Resolver(file, shown, lines).sweep(path, root)


def _best_known(value: dict[str, Any]) -> float | None:
    """Return the objective's best known accuracy, 0 where it has another fault of its own."""
    objective = value.get("objective")
    if not isinstance(objective, dict) or objective.get(BEST_KNOWN) is None:
        return None
    known = objective[BEST_KNOWN]
    return known if type(known) in (int, float) and 0 <= known <= 1 else 0.0


def _text(path: Path, shown: str) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SweepFileError(f"{shown}: no such file. See: pcan sweep list") from None
    except OSError as error:
        raise SweepFileError(f"{shown}: cannot be read ({error.strerror}).") from None
    if len(raw) > MAX_BYTES:
        raise SweepFileError(
            f"{shown}: {len(raw):,} bytes, more than a sweep file may have ({MAX_BYTES:,})."
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SweepFileError(f"{shown}:{line}: not UTF-8 text. Save the file as UTF-8.") from None


def _sentence(error: ValidationError, shown: str, lines: dict[KeyPath, int]) -> str:
    """Turn the first validation error into file:line, key and what would be right."""
    first = min(error.errors(), key=lambda e: line_of(lines, _keys(e["loc"], lines)))
    keys = _keys(first["loc"], lines)
    where = f"{shown}:{line_of(lines, keys)}: {_dotted(keys)}"
    kind, value = first["type"], first.get("input")
    if kind == "extra_forbidden":
        return f'{shown}:{line_of(lines, keys)}: unknown key "{keys[-1]}"{_meant(keys)}.'
    if kind == "missing":
        place = _dotted(keys[:-1]) or "the file"
        return f'{shown}:{line_of(lines, keys[:-1])}: {place} has no "{first["loc"][-1]}".'
    if kind == "value_error":
        return f"{where}: {first['ctx']['error']}."
    if kind == "string_pattern_mismatch":
        return f"{where}: {value!r} is not a name: letters, digits, . _ - and at most 100 of them."
    if kind.endswith("_type"):
        return f"{where} is {_shown(value)}; it must be {_noun(kind)}."
    return f"{where} is {_shown(value)}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _keys(loc: Iterable[str | int], lines: dict[KeyPath, int]) -> KeyPath:
    """Drop what pydantic adds to a location (union members, `[key]`)."""
    keys: KeyPath = ()
    parts = list(loc)
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if (*keys, part) in lines or (last and part not in ("[key]", BEST_KNOWN)):
            keys = (*keys, part)
    while keys and keys not in lines and str(keys[-1]).startswith(("function-", "literal[", "[")):
        keys = keys[:-1]
    return keys


def _dotted(keys: KeyPath) -> str:
    return ".".join(str(key) for key in keys)


def _meant(keys: KeyPath) -> str:
    """Return which known key the unknown one resembles."""
    # The models of the file itself; those derived from them hold what was resolved.
    known = {name for model in Strict.__subclasses__() for name in model.model_fields}
    close = difflib.get_close_matches(str(keys[-1]), sorted(known), n=1)
    place = _dotted(keys[:-1])
    inside = f" in {place}" if place else ""
    if close and close[0] == keys[-1]:
        return f"{inside}; it belongs to another part of the file (docs/commands.md)"
    return f"{inside} (did you mean {close[0]!r}?)" if close else inside


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _noun(kind: str) -> str:
    return {
        "float_type": "a number",
        "int_type": "a whole number",
        "bool_type": "true or false",
        "string_type": "text; put it in quotes",
        "list_type": "a list",
        "tuple_type": "a list",
        "dict_type": "a mapping of keys",
        "model_type": "a mapping of keys",
    }.get(kind, f"of another type ({kind.removesuffix('_type')})")
