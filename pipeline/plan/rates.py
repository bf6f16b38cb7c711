"""Refuse a learning rate that no training could use, with its line in the sweep file."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import SweepFileError
from pipeline.plan.sweep import Sweep

LR = "optim_wrapper.optimizer.lr"


def check_rates(sweep: Sweep, name: str, facts: Mapping[str, Any]) -> None:
    """Check a variant's learning rate, its searched range, and where its schedulers end.

    Args:
        facts: `lr` and `param_scheduler` of the resolved config, as far as it has them.

    Raises:
        SweepFileError: a value is no finite number above 0, or a schedule ends above its start.
    """
    lr = facts.get("lr")
    if lr is not None and not _usable(lr):
        raise SweepFileError(
            f"{_where(sweep, name, LR)}: {name} trains with {LR} = {lr!r}. Write a finite number "
            "above 0, such as 0.003."
        )
    space = sweep.variants[name].space.get(LR)
    if space is not None and space.low is not None and space.low <= 0:
        raise SweepFileError(
            f"{sweep.where('variants', name, 'space', LR, 'low')}: {name} searches {LR} from "
            f"{space.low:g}. A learning rate is above 0; write, say, low: 1.0e-5."
        )
    for path, end in _ends(facts.get("param_scheduler")):
        if not isinstance(end, int | float) or not math.isfinite(end) or end < 0:
            problem = f"{path} is {end!r}; it must be a number from 0 up to the starting rate"
        elif lr is not None and end > lr:
            problem = f"the schedule ends at {path} = {end:g}, above its start {LR} = {lr:g}"
        else:
            continue
        raise SweepFileError(f"{_where(sweep, name, path)}: {name}: {problem}.")


def _usable(lr: Any) -> bool:
    number = isinstance(lr, int | float) and not isinstance(lr, bool)
    return number and math.isfinite(lr) and lr > 0


def _ends(schedulers: Any) -> Iterator[tuple[str, Any]]:
    """Yield config path and value of each scheduler's last rate, where it names one."""
    listed = schedulers if isinstance(schedulers, list | tuple) else [schedulers]
    for i, scheduler in enumerate(listed):
        if isinstance(scheduler, Mapping) and scheduler.get("eta_min") is not None:
            at = f"param_scheduler.{i}" if listed is schedulers else "param_scheduler"
            yield f"{at}.eta_min", scheduler["eta_min"]


def _where(sweep: Sweep, name: str, path: str) -> str:
    """Return the line that sets a path for a variant, which it may have from another."""
    variant = sweep.variants[name]
    while path not in variant.named and variant.like is not None:
        variant = sweep.variants[variant.like]
    if path in variant.named:
        return sweep.where("variants", variant.name, "set", path)
    return sweep.where("variants", name)
