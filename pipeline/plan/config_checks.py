"""Check a plan against the resolved configs of its variants: what the file alone cannot show."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import SweepFileError
from pipeline.plan.search.space import LR
from pipeline.plan.sweep import Sweep
from pipeline.shared.counted import counted


def check_against(sweep: Sweep, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a plan that its configs cannot carry out.

    Args:
        facts: by variant, `max_epochs` and `val_epochs` (the validated epochs, ascending).

    Raises:
        SweepFileError: with file:line and the override that would fix it.
    """
    for name, found in facts.items():
        epochs = found.get("max_epochs")
        if not isinstance(epochs, int) or epochs < 1:
            raise SweepFileError(
                f"{sweep.where('variants', name)}: {name} has no train_cfg.max_epochs, in "
                f"{sweep.config_of(name)} or here; pcan trains by epochs. Set "
                "train_cfg.max_epochs."
            )
        if found.get("has_validation") is False:
            raise SweepFileError(
                f"{sweep.where('config')}: {sweep.config_of(name)} does not validate, so nothing "
                "can be judged. Give it val_dataloader, val_cfg and val_evaluator."
            )
        if found.get("val_epochs") == []:
            begin, interval = found.get("val_begin"), found.get("val_interval")
            raise SweepFileError(
                f"{sweep.where('variants', name)}: {name} validates after none of its "
                f"{counted(epochs, 'epoch')} (train_cfg.val_begin is {begin}, val_interval "
                f"{interval}), so nothing can be judged. Set both to 1."
            )
        _check_rates(sweep, name, found)
        _check_gates(sweep, name, epochs, found.get("val_epochs"))


def ignored_settings(sweep: Sweep, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what the jobs leave out of a base config, or do in its place, a line each.

    Args:
        facts: by variant, as the configs were resolved.
    """
    lines: list[str] = []
    unused: dict[tuple[str, str], list[str]] = {}
    for name, found in facts.items():
        config = sweep.config_of(name)
        replaced = found.get("replaced") or {}
        for backend in replaced.get("backends", []):
            lines.append(
                f"{config} has {backend}, which is left out: pcan mirrors each trial itself."
            )
        for hook in replaced.get("hooks", []):
            lines.append(f"{config} has {hook}, which is left out: {_instead(sweep, hook)}.")
        scaled = _scaled(sweep, found)
        if scaled:
            lines.append(f"{config}: {scaled}")
        if found.get("resume"):
            lines.append(
                f"{config} says resume=True, which is left out: a trial goes on from its own "
                "checkpoints, and begins with the weights of warm_start."
            )
        variant = sweep.variants.get(name)
        if found.get("load_from") and variant is not None and variant.warm_start is None:
            unused.setdefault((config, str(found["load_from"])), []).append(name)
    for (config, weights), names in unused.items():
        verb = "does" if len(names) == 1 else "do"
        lines.append(
            f'{config} has load_from="{weights}", which {", ".join(names)} {verb} not use: '
            f"warm_start is null there. To start from it, name {_as_checkpoint(weights)}."
        )
    return list(dict.fromkeys(lines))


def _scaled(sweep: Sweep, found: Mapping[str, Any]) -> str:
    """Return what MMEngine makes of the rate by `auto_scale_lr`, nothing where it is off."""
    scale, batch = found.get("auto_scale_lr") or {}, found.get("batch_size")
    base = scale.get("base_batch_size")
    if not (scale.get("enable") and isinstance(base, int) and isinstance(batch, int)):
        return ""
    ranks = sweep.job.gpus
    return (
        f"auto_scale_lr multiplies the lr by {ranks * batch / base:.3g}: a step has "
        f"{counted(ranks * batch, 'clip')} ({counted(ranks, 'process', 'processes')} of {batch}), "
        f"base_batch_size is {base}."
    )


def _as_checkpoint(weights: str) -> str:
    """Return how starting weights are named in a sweep file, which takes files alone."""
    if "://" in weights:
        return "the downloaded file as warm_start.checkpoint"
    return "it as warm_start.checkpoint"


def _instead(sweep: Sweep, hook: str) -> str:
    """Return who does the work of a hook that jobs leave out."""
    if hook == "EarlyStoppingHook":
        return f"patience in {sweep.shown_path} decides"
    if hook.startswith("LoggerHook."):
        return "the logs of a trial stay in its run directory"
    return "a trial saves its newest and its best checkpoints itself"


def _check_gates(sweep: Sweep, name: str, epochs: int, validated: Any) -> None:
    for i, gate in enumerate(sweep.variants[name].gates):
        where = _gate_line(sweep, name, i)
        if gate.epoch > epochs:
            raise SweepFileError(
                f"{where}: a gate at epoch {gate.epoch}, but {name} has "
                f"{counted(epochs, 'epoch')}."
            )
        missed = sorted(gate.needs - set(validated)) if validated is not None else []
        if missed:
            raise SweepFileError(
                f"{where}: the gate needs the validation of epoch {missed[0]}, which {name} does "
                "not validate. Set train_cfg.val_begin: 1 and train_cfg.val_interval: 1."
            )


def _gate_line(sweep: Sweep, name: str, index: int) -> str:
    own: tuple[str | int, ...] = ("variants", name, "gates", index)
    return sweep.where(*own) if own in sweep.lines else sweep.where("gates", index)


def _check_rates(sweep: Sweep, name: str, facts: Mapping[str, Any]) -> None:
    """Refuse a variant's learning rate, its searched range or its schedulers' ends.

    Args:
        facts: `lr` and `param_scheduler` of the resolved config, as far as it has them.

    Raises:
        SweepFileError: a value is not a finite number above 0, or a schedule ends above its start.
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
