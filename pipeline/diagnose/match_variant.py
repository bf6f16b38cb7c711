"""Which variant of a plan a log's configuration is, and its values at the searched paths.

Recipes are compared leaf by leaf: model, optimiser, schedule, epochs, batch size,
training pipeline, and which clips are read. Where files lie, what is logged and what is saved may
differ. A searched path may have any value of its range.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pipeline.diagnose.config_facts import read_config
from pipeline.diagnose.fields import is_number
from pipeline.plan.search.space import LR, moved_with_lr
from pipeline.plan.sweep import Space, Sweep, Variant

#: Config paths that make a recipe; below each, every leaf counts.
RECIPE = (
    "model",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg.max_epochs",
    "train_dataloader.batch_size",
    "train_dataloader.dataset.pipeline",
    "train_dataloader.dataset.ann_file",
    "train_dataloader.dataset.split",
    "val_dataloader.dataset.ann_file",
    "val_dataloader.dataset.split",
)
_ABSENT = object()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """The variant of a plan that a configuration belongs to.

    Args:
        variant: the variant whose recipe it is, None if there is none.
        params: its values at the variant's searched paths.
        why_not: how it differs from the nearest variant, as text; empty for a match.
    """

    variant: str | None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    why_not: str = ""


def match(
    sweep: Sweep, texts: Mapping[str, str], config: Mapping[str, Any], load_from: str | None
) -> Match:
    """Return the variant that a logged configuration belongs to.

    Args:
        texts: every variant's resolved config, as text.
        config: the log's configuration, by top-level name.
        load_from: the weights that the logged run started from.
    """
    if not config:
        return Match(variant=None, why_not="no config lies beside it")
    logged, nearest = leaves(config), (math.inf, "")
    matches = []
    for name, text in texts.items():
        variant = sweep.variants[name]
        recipe = read_config(text).config
        differing = differences(leaves(recipe), logged)
        coupled = _coupled_rates(variant, recipe, config)
        odd = [
            path
            for path in differing
            if not _searched(variant, path)
            and not _same(coupled.get(path, _ABSENT), logged.get(path))
        ]
        problem = _start(variant, load_from) or _outside(variant, config)
        if not odd and problem is None:
            matches.append((len(differing), name))
        elif len(odd) < nearest[0]:
            why = f"{odd[0]} is {_shown(logged.get(odd[0]))}" if odd else str(problem)
            nearest = (len(odd), f"{name} is nearest, but {why}")
    if not matches:
        return Match(variant=None, why_not=nearest[1])
    name = min(matches, key=lambda pair: pair[0])[
        1
    ]  # an exact recipe first, then the file's order
    return Match(variant=name, params=searched_values(sweep.variants[name], config))


def searched_values(variant: Variant, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's values at a variant's searched paths, where it has any."""
    values = {path: inside(config, path) for path in variant.space}
    return {path: value for path, value in values.items() if value is not _ABSENT}


def recipe_values(sweep: Sweep, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's values at every path that the plan sets or searches."""
    paths = [p for v in sweep.variants.values() for p in (*v.set, *v.space)]
    values = {path: inside(config, path) for path in dict.fromkeys(paths)}
    return {path: value for path, value in values.items() if value is not _ABSENT}


def differences(planned: Mapping[str, Any], logged: Mapping[str, Any]) -> list[str]:
    """Return the leaves in which two recipes differ, in the order of the plan's."""
    paths = dict.fromkeys([*planned, *logged])
    return [p for p in paths if not _same(planned.get(p, _ABSENT), logged.get(p, _ABSENT))]


def leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a config that make a recipe, by full path."""
    values: dict[str, Any] = {}
    for path in RECIPE:
        _flatten(path, inside(config, path), values)
    return values


def inside(config: Any, path: str) -> Any:
    """Return the value at a config path, `_ABSENT` if there is none."""
    for part in path.split("."):
        if isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        elif isinstance(config, Mapping) and part in config:
            config = config[part]
        else:
            return _ABSENT
    return config


def _flatten(path: str, value: Any, values: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            _flatten(f"{path}.{key}", item, values)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            _flatten(f"{path}.{index}", item, values)
    elif value is not _ABSENT:
        values[path] = value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return a == b or ("/" in a + b and a.rsplit("/", 1)[-1] == b.rsplit("/", 1)[-1])
    if is_number(a) and is_number(b):
        return math.isclose(a, b, rel_tol=1e-9)
    return type(a) is type(b) and bool(a == b)


def _searched(variant: Variant, path: str) -> bool:
    return any(path == own or path.startswith(f"{own}.") for own in variant.space)


def _coupled_rates(
    variant: Variant, recipe: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, float]:
    """Return the schedule's rates that follow from the searched lr of a configuration."""
    lr = inside(recipe, LR)
    return moved_with_lr(recipe.get("param_scheduler"), lr, searched_values(variant, config))


def _start(variant: Variant, load_from: str | None) -> str | None:
    """Return how the run's start differs from the variant's, None if it does not."""
    if (variant.warm_start is None) == (load_from is None):
        return None
    if load_from is None:
        return "it started from random weights"
    return f"it started from {load_from.rsplit('/', 1)[-1]}"


def _outside(variant: Variant, config: Mapping[str, Any]) -> str | None:
    """Return which searched value lies outside its range, None if there is none."""
    for path, value in searched_values(variant, config).items():
        if not contains(variant.space[path], value):
            return f"{path} = {_shown(value)} is outside the searched range"
    return None


def contains(space: Space, value: Any) -> bool:
    """Whether a value belongs to a searched range or choice."""
    if space.choices is not None:
        return value in space.choices
    if not is_number(value) or space.low is None or space.high is None:
        return False
    if space.step is not None:
        steps = (value - space.low) / space.step
        if abs(steps - round(steps)) > 1e-8:
            return False
    return bool(space.low <= value <= space.high)


def _shown(value: Any) -> str:
    return "absent" if value is None else repr(value)
