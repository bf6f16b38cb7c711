"""Check a plan against the resolved configs of its variants: what the file alone cannot tell."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import SweepFileError
from pipeline.plan.rates import check_rates
from pipeline.plan.sweep import Sweep


def check_against(sweep: Sweep, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a plan that its configs cannot carry out.

    Args:
        facts: by variant, `max_epochs` and `val_epochs` (the validated epochs, ascending).

    Raises:
        SweepFileError: with file:line and the override that would mend it.
    """
    for name, found in facts.items():
        epochs = found.get("max_epochs")
        if not isinstance(epochs, int) or epochs < 1:
            raise SweepFileError(
                f"{sweep.where('variants', name)}: {name} has no train_cfg.max_epochs, in "
                f"{sweep.config} or here; pcan trains by epochs. Set train_cfg.max_epochs."
            )
        if found.get("has_validation") is False:
            raise SweepFileError(
                f"{sweep.where('config')}: {sweep.config} does not validate, so nothing can be "
                "judged. Give it val_dataloader, val_cfg and val_evaluator."
            )
        check_rates(sweep, name, found)
        _check_gates(sweep, name, epochs, found.get("val_epochs"))


def ignored_settings(sweep: Sweep, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what the jobs leave out of a base config, or do in its place.

    Args:
        facts: by variant, as the configs were resolved.
    """
    lines: list[str] = []
    for name, found in facts.items():
        replaced = found.get("replaced") or {}
        for backend in replaced.get("backends", []):
            lines.append(f"has {backend}, which is left out: pcan mirrors each trial itself.")
        for hook in replaced.get("hooks", []):
            lines.append(f"has {hook}, which is left out: patience in {sweep.shown_path} decides.")
        if found.get("resume"):
            lines.append(
                "says resume=True, which is left out: a trial goes on from its own checkpoints, "
                "and begins with the weights of warm_start."
            )
        variant = sweep.variants.get(name)
        if found.get("load_from") and variant is not None and variant.warm_start is None:
            lines.append(
                f'has load_from="{found["load_from"]}", which {name} does not use: its warm_start '
                "is null. To start from it, name it as warm_start.checkpoint."
            )
    return [f"{sweep.config} {line}" for line in dict.fromkeys(lines)]


def _check_gates(sweep: Sweep, name: str, epochs: int, validated: Any) -> None:
    for i, gate in enumerate(sweep.variants[name].gates):
        where = _gate_line(sweep, name, i)
        if gate.epoch > epochs:
            raise SweepFileError(
                f"{where}: a gate at epoch {gate.epoch}, but {name} has {epochs} epochs."
            )
        wanted = {gate.epoch, *([gate.improve_on_epoch] if gate.improve_on_epoch else [])}
        missed = sorted(wanted - set(validated)) if validated is not None else []
        if missed:
            raise SweepFileError(
                f"{where}: the gate needs the validation of epoch {missed[0]}, which {name} does "
                "not validate. Set train_cfg.val_begin: 1 and train_cfg.val_interval: 1."
            )


def _gate_line(sweep: Sweep, name: str, index: int) -> str:
    own: tuple[str | int, ...] = ("variants", name, "gates", index)
    return sweep.where(*own) if own in sweep.lines else sweep.where("gates", index)
