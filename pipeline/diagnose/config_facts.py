"""Facts about a run from its configuration, printed into the log or saved beside it.

A configuration is Python, but it comes with a log from anywhere, so it is never executed:
each top-level assignment is parsed and only literals and `dict(..)` calls are taken. A
damaged statement, or any other expression, is skipped; the others still count.
"""

import ast
import re
from typing import Any

from pipeline.diagnose.curve import Facts
from pipeline.diagnose.fields import is_number, number, whole

#: A top-level assignment begins at the start of a line; what follows is indented or closes it.
_STATEMENT = re.compile(r"^(?=[A-Za-z_]\w* *= *)", re.MULTILINE)

#: A longer range is no list of GPUs.
_MOST_GPUS = 4096


def read_config(text: str) -> Facts:
    """Return the facts in a configuration; what it does not set stays None."""
    return _facts(_assignments(text.replace("\r\n", "\n").strip()))


def _assignments(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for statement in _STATEMENT.split(text):
        name, equals, value = statement.partition("=")
        if not equals or not name.strip().isidentifier():
            continue
        try:
            values[name.strip()] = _literal(ast.parse(value.strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return values


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal; None for any other expression."""
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple() | ast.Set():
            return [_literal(item) for item in node.elts]
        case ast.Dict():
            keys = [_literal(key) if key is not None else None for key in node.keys]
            values = [_literal(value) for value in node.values]
            return {
                key: value for key, value in zip(keys, values, strict=True) if isinstance(key, str)
            }
        case ast.Call(func=ast.Name(id="dict")):
            return {item.arg: _literal(item.value) for item in node.keywords if item.arg}
        case ast.Call(func=ast.Name(id="range")):
            bounds = [_literal(argument) for argument in node.args]
            if 1 <= len(bounds) <= 2 and all(whole(b, least=0) is not None for b in bounds):
                return list(range(*bounds))[:_MOST_GPUS]
            return None
        case ast.UnaryOp(op=ast.USub()):
            value = _literal(node.operand)
            return -value if is_number(value) else None
    return None


def _facts(config: dict[str, Any]) -> Facts:
    train, runner = _dict(config.get("train_cfg")), _dict(config.get("runner"))
    optimizer = _dict(_dict(config.get("optim_wrapper")).get("optimizer")) or _dict(
        config.get("optimizer")
    )
    checkpointing = _dict(_dict(config.get("default_hooks")).get("checkpoint"))
    evaluation = _dict(config.get("evaluation"))
    return Facts(
        max_epochs=whole(train.get("max_epochs"))
        or whole(runner.get("max_epochs"))
        or whole(config.get("total_epochs")),
        val_interval=whole(train.get("val_interval")) or whole(evaluation.get("interval")),
        base_lr=number(optimizer.get("lr")),
        schedulers=_schedulers(config),
        load_from=_text(config.get("load_from")),
        early_stopping=_early_stopping(config),
        save_best=_text(checkpointing.get("save_best")),
        num_classes=_num_classes(config.get("model")) or whole(config.get("num_classes")),
        val_batch=_val_batch(config),
        gpus=_gpus(config),
        by_iteration=_by_iteration(config),
        config=config,
    )


def _by_iteration(config: dict[str, Any]) -> bool:
    """Whether MMEngine's loop, or the runner of MMCV 1.x, counts iterations."""
    train, runner = _dict(config.get("train_cfg")), _dict(config.get("runner"))
    return (
        "IterBasedTrainLoop" in (_text(train.get("type")) or "")
        or train.get("by_epoch") is False
        or "IterBased" in (_text(runner.get("type")) or "")
    )


def _val_batch(config: dict[str, Any]) -> int | None:
    """Return the validation clips a GPU gets at once (MMEngine, or MMCV 1.x)."""
    data = _dict(config.get("data"))
    places = (_dict(config.get("val_dataloader")), _dict(data.get("val_dataloader")), data)
    names = ("batch_size", "videos_per_gpu", "samples_per_gpu")
    sizes = (whole(place.get(name)) for place in places for name in names)
    return next((size for size in sizes if size), None)


def _gpus(config: dict[str, Any]) -> int | None:
    """Return the number of GPUs that MMCV 1.x wrote into its configuration."""
    ids = config.get("gpu_ids")
    return len(ids) or None if isinstance(ids, list) else None


def _schedulers(config: dict[str, Any]) -> list[dict[str, Any]]:
    schedulers = config.get("param_scheduler")
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    if isinstance(schedulers, list):
        return [item for item in schedulers if isinstance(item, dict)]
    policy = _dict(config.get("lr_config"))
    return [policy] if policy else []


def _early_stopping(config: dict[str, Any]) -> dict[str, Any] | None:
    hooks = list(_dict(config.get("default_hooks")).values())
    custom = config.get("custom_hooks")
    for hook in hooks + (custom if isinstance(custom, list) else []):
        if isinstance(hook, dict) and hook.get("type") == "EarlyStoppingHook":
            return hook
    return None


def _num_classes(model: Any) -> int | None:
    for head in ("cls_head", "head"):
        classes = whole(_dict(_dict(model).get(head)).get("num_classes"))
        if classes:
            return classes
    return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
