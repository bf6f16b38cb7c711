"""What a search draws: conditional values, and values that move with a drawn one. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.plan.sweep import Space

LR = "optim_wrapper.optimizer.lr"
#: Scheduler settings that are rates themselves. What else a scheduler has (start_factor, gamma,
#: div_factor) is a share of lr, so it moves along by itself.
RATES = ("eta_min", "eta_max", "min_value", "min_lr")


def applies(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether a value is to be drawn, given those drawn before it."""
    return all(path in values and values[path] in allowed for path, allowed in space.when.items())


def draw(space: Mapping[str, Space], suggest: Callable[[str, Space], Any]) -> dict[str, Any]:
    """Draw every value that applies, in the order of the file."""
    values: dict[str, Any] = {}
    for path, one in space.items():
        if applies(one, values):
            values[path] = suggest(path, one)
    return values


def applicable(space: Mapping[str, Space], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that apply, without those of conditions that are not met."""
    kept: dict[str, Any] = {}
    for path, one in space.items():
        if path in values and applies(one, kept):
            kept[path] = values[path]
    return kept


def holds(space: Space, value: Any) -> bool:
    """Whether a value could have been drawn."""
    if space.choices is not None:
        return value in space.choices
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert space.low is not None and space.high is not None
    return space.low <= value <= space.high


def moved_with_lr(schedulers: Any, recipe_lr: Any, values: Mapping[str, Any]) -> dict[str, float]:
    """Return what moves with a drawn lr so that its ratio to the lr stays the recipe's.

    Args:
        schedulers: `param_scheduler` of the resolved recipe.
        recipe_lr: the recipe's lr.
        values: what was drawn; a path drawn itself is left alone.

    Returns:
        Config paths and their values; empty when lr is not drawn or the recipe has none.
    """
    lr = values.get(LR)
    if lr is None or not isinstance(recipe_lr, int | float) or not recipe_lr:
        return {}
    return {
        path: old * lr / recipe_lr
        for path, old in rates_of(schedulers).items()
        if path not in values
    }


def rates_of(schedulers: Any) -> dict[str, float]:
    """Return the absolute rates in `param_scheduler`, by config path."""
    found = {}
    for place, entry in _entries(schedulers):
        for key in RATES:
            value = entry.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"{place}.{key}"] = float(value)
    return found


def _entries(schedulers: Any) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Return each scheduler with its config path; several optimizers' are left alone."""
    if isinstance(schedulers, Mapping):
        return [("param_scheduler", schedulers)] if "type" in schedulers else []
    if not isinstance(schedulers, list | tuple):
        return []
    return [
        (f"param_scheduler.{i}", entry)
        for i, entry in enumerate(schedulers)
        if isinstance(entry, Mapping)
    ]
