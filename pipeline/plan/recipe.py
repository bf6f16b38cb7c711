"""What a variant's recipe sets at a path of the config."""

from typing import Any

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
            return _inside(value, parts[length:])
    return MISSING


def recipe_values(variant: Variant) -> dict[str, Any]:
    """Return what the recipe sets at the paths of its space, where they apply."""
    values = {path: recipe_value(variant, path) for path in variant.space}
    return applicable(variant.space, {p: v for p, v in values.items() if v is not MISSING})


def _inside(value: Any, parts: list[str]) -> Any:
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
