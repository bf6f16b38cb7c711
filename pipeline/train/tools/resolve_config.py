"""`python -m pipeline.train.tools.resolve_config`: a config and its variants, fully resolved.

stdin: `{"config": path, "sets": [{"name", "overrides": {dotted path: value}}], "code_root":
path or null, "speed": `job.speed`}`. stdout: `{"base", "results": [{"name", "config", "changes",
"missing", "near", "speed_problem", "facts"}], "sources"}`. A resolved config is one text without
`_base_` that plain MMEngine reads. Imports mmengine.config only (no torch) unless the config
itself imports more.
"""

import copy
import os
import sys
from typing import Any, Dict, List

from pipeline.train.config_file import load
from pipeline.train.config_text import to_text
from pipeline.train.left_out import kind_of, split_hooks
from pipeline.train.override import apply, changes, nearest
from pipeline.train.speed_config import apply_speed, precision_of, speed_problem
from pipeline.train.tools.tool import ToolError, serve


def resolve(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    path = question.get("config")
    if not isinstance(path, str):
        raise ToolError('The question has no "config".')
    if question.get("code_root"):
        sys.path.insert(0, question["code_root"])
    base, _ = load(path)
    speed = question.get("speed") or {}
    results = [variant(base, entry, path, speed) for entry in question.get("sets") or []]
    return {"base": facts(base), "results": results}


def variant(
    base: Dict[str, Any], entry: Dict[str, Any], path: str, speed: Dict[str, Any]
) -> Dict[str, Any]:
    """Apply one set of overrides to the base config and write the result as text.

    `changes` are those of the overrides alone: `job.speed` is the same for all variants.
    """
    config = copy.deepcopy(base)
    overrides = entry.get("overrides") or {}
    missing = apply(config, overrides)
    changed, problem = changes(base, config), speed_problem(config, speed)
    if problem is None:
        apply_speed(config, speed)
    return {
        "name": entry.get("name"),
        "config": to_text(config, path),
        "changes": changed,
        "missing": missing,
        "speed_problem": problem,
        "near": {name: nearest(base, name) for name in missing},
        "facts": facts(config),
    }


def facts(config: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the plan is checked against; None where a config does not say."""
    loop = config.get("train_cfg") or {}
    head = _inside(config, "model", "cls_head") or {}
    sets = data_sets(config)
    return {
        "by_epoch": bool(loop.get("by_epoch") or loop.get("type") == "EpochBasedTrainLoop"),
        "max_epochs": loop.get("max_epochs"),
        "val_begin": loop.get("val_begin", 1),
        "val_interval": loop.get("val_interval", 1),
        "val_epochs": validated(loop),
        "model": _inside(config, "model", "type"),
        "num_classes": head.get("num_classes"),
        "loss_weights": head.get("loss_weights"),
        "head_streams": streams(head),
        "batch_size": _inside(config, "train_dataloader", "batch_size"),
        "val_batch_size": _inside(config, "val_dataloader", "batch_size"),
        "num_workers": _inside(config, "train_dataloader", "num_workers"),
        "precision": precision_of(config),
        "optimizer": _inside(config, "optim_wrapper", "optimizer", "type"),
        "lr": _inside(config, "optim_wrapper", "optimizer", "lr"),
        "clip_grad": _inside(config, "optim_wrapper", "clip_grad"),
        "param_scheduler": config.get("param_scheduler"),
        "val_evaluator": config.get("val_evaluator"),
        "has_validation": all(
            config.get(k) is not None for k in ("val_dataloader", "val_cfg", "val_evaluator")
        ),
        "ann_files": {name: annotation_file(d) for name, d in sets.items() if "ann_file" in d},
        "ann_keys": annotation_keys(config),
        "data_kinds": {name: kind_of(d) for name, d in sets.items()},
        "ann_splits": {name: d["split"] for name, d in sets.items() if "split" in d},
        "auto_scale_lr": config.get("auto_scale_lr"),
        "load_from": config.get("load_from"),
        "resume": bool(config.get("resume")),
        "max_iters": loop.get("max_iters"),
        "watched": watched(config),
        "replaced": replaced(config),
        "custom_imports": config.get("custom_imports"),
    }


def streams(head: Dict[str, Any]) -> List[str]:
    """Return the streams that a head predicts by itself each, none if it has one prediction."""
    usual = ["rgb", "pose"] if kind_of(head).startswith("RGBPose") else []
    named = head.get("loss_components") or usual
    return [one for one in named if isinstance(one, str) and "coarse" not in one]


def watched(config: Dict[str, Any]) -> Dict[str, Any]:
    """Return the metrics that a config saves its best by, and those its hooks stop by.

    One that is better when it is lower is left out, and so is what only a scheduler waits for.
    """
    saver = _inside(config, "default_hooks", "checkpoint") or {}
    best, rule = saver.get("save_best"), saver.get("rule")
    names = [best] if isinstance(best, str) else list(best or ())
    rules = [rule] * len(names) if isinstance(rule, str) or rule is None else list(rule)
    hooks = config.get("custom_hooks") or []
    hooks = [hooks] if isinstance(hooks, dict) else list(hooks)
    hooks += list((config.get("default_hooks") or {}).values())
    stops = [hook for hook in hooks if kind_of(hook) == "EarlyStoppingHook"]
    by_stop = [hook.get("monitor") for hook in stops if hook.get("rule") != "less"]
    return {
        "best": [name for name, how in zip(names, rules) if how != "less" and name != "auto"],
        "stop": [name for name in by_stop if isinstance(name, str)],
    }


def replaced(config: Dict[str, Any]) -> Dict[str, Any]:
    """Return the parts whose work a job leaves to others, by kind: hooks, other trackers."""
    backends = (config.get("visualizer") or {}).get("vis_backends") or []
    names = [kind_of(part) for part in backends if isinstance(part, dict)]
    return {
        "hooks": split_hooks(config)[2],
        "backends": [name for name in names if name != "LocalVisBackend"],
    }


def validated(loop: Dict[str, Any]) -> Any:
    """Return the epochs that MMEngine's loop validates after, or None if it counts none."""
    last = loop.get("max_epochs")
    if not isinstance(last, int) or last > 100000:  # the control side refuses that many
        return None
    begin, interval = loop.get("val_begin", 1), loop.get("val_interval", 1)
    stages = sorted(loop.get("dynamic_intervals") or [])
    if not all(type(n) is int and n != 0 for n in (interval, *(n for _, n in stages))):
        return []  # no loop can count so
    if type(begin) is not int:
        return []

    def due(epoch: int) -> bool:
        every = next((n for start, n in reversed(stages) if start <= epoch + 1), interval)
        return epoch >= begin and (epoch % every == 0 or epoch == last)

    return [epoch for epoch in range(1, last + 1) if due(epoch)]


def data_sets(config: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Return each loader's data set, out of what repeats or slices it, by the loader's name."""
    found = {}
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = _inside(config, name, "dataset")
        while isinstance(dataset, dict) and isinstance(dataset.get("dataset"), dict):
            dataset = dataset["dataset"]
        if isinstance(dataset, dict):
            found[name] = dataset
    return found


def annotation_keys(config: Dict[str, Any]) -> Dict[str, str]:
    """Return the config path of each loader's annotation, by the loader's name."""
    keys = {}
    for name in data_sets(config):
        path, dataset = f"{name}.dataset", config[name]["dataset"]
        while isinstance(dataset.get("dataset"), dict):
            path, dataset = f"{path}.dataset", dataset["dataset"]
        keys[name] = f"{path}.ann_file"
    return keys


def annotation_file(dataset: Dict[str, Any]) -> Any:
    """Return a data set's annotation as MMEngine finds it: below `data_root`, if there is one."""
    root, file = dataset.get("data_root"), dataset["ann_file"]
    return os.path.join(root, file) if root and isinstance(file, str) else file


def _inside(config: Any, *keys: str) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config


if __name__ == "__main__":
    sys.exit(serve(resolve, kept=True))
