"""`python -m pipeline.train.tools.inspect_checkpoint`: what a checkpoint is and would load.

stdin: `{"checkpoint": path or null, "config": path or null, "code_root": path or null,
"min_matched": 0.95}`. stdout: `{"schema", "file": {...} or null, "fit": {...} or null,
"config": {...} or null}`. Without a checkpoint the config alone is checked: its model is
built and compared with its pipelines; `config.problems` lists the contradictions.
"""

import os
import sys
import warnings
from typing import Any, Callable, Dict, Optional

from pipeline.train.checkpoint_file import CheckpointError, read_checkpoint, state_dict_of
from pipeline.train.config_parts import of_a_checkout, one_line
from pipeline.train.tools.tool import ToolError, serve
from pipeline.train.weights import KINDS, compare, kind_of, rename


def inspect(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    checkpoint, config = question.get("checkpoint"), question.get("config")
    if question.get("code_root"):
        sys.path.insert(0, question["code_root"])
    answer: Dict[str, Any] = {"schema": 1, "file": None, "fit": None, "config": None}
    tensors: Dict[str, Any] = {}
    if checkpoint:
        try:
            content = read_checkpoint(checkpoint)
            tensors = state_dict_of(content, checkpoint)
        except CheckpointError as error:
            raise ToolError(str(error)) from error
        answer["file"] = describe(checkpoint, content, tensors)
    if config:
        cfg, model = build(config)
        answer["config"] = describe_config(config, cfg, model)
        if checkpoint:
            answer["fit"] = fit(tensors, model, question.get("min_matched", 0.95))
    return answer


def describe(path: str, content: Dict[str, Any], tensors: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a file holds, from its names and shapes alone."""
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    kind = kind_of(tensors)
    floats = [value for value in tensors.values() if value.is_floating_point()]
    return {
        "path": path,
        "bytes": os.path.getsize(os.path.expanduser(path)),
        "kind": kind,
        "description": KINDS[kind],
        "tensors": len(tensors),
        "numbers": sum(value.numel() for value in tensors.values()),
        "finite": all(_is_finite(value) for value in floats),
        "classes": _rows(tensors, "cls_head.fc_rgb.weight"),
        "coarse_classes": _rows(tensors, "cls_head.fc_rgb_coarse.weight"),
        "joints": _rows(tensors, "backbone.pose_path.conv1.conv.weight", 1),
        "prototypes": sorted(name for name in tensors if name.endswith((".prototypes", ".avg_f"))),
        "epoch": _number(meta.get("epoch")),
        "iteration": _number(meta.get("iter")),
        "optimizer": "optimizer" in content,
    }


def _is_finite(tensor: Any) -> bool:
    # Numbers of eight bits have no such test of their own.
    wide = tensor if tensor.element_size() > 1 else tensor.float()
    return bool(wide.isfinite().all())


def build(path: str, change: Optional[Callable[[Any], None]] = None) -> Any:
    """Read a config and build its model; one sentence for what is wrong with either.

    Args:
        change: changes the config before its model is built.
    """
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from pipeline.train.compat import prepare_mmaction

    prepare_mmaction()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cfg = Config.fromfile(path)
            import mmaction.models  # noqa: F401
            from mmaction.registry import MODELS

            if change is not None:
                change(cfg)
            init_default_scope(cfg.get("default_scope", "mmaction"))
            return cfg, MODELS.build(cfg.model)
    except Exception as error:  # a config is a program: it can fail in any way
        text = str(error).strip() or type(error).__name__
        if isinstance(error, ImportError) and "custom modules" in text:
            # MMEngine lists the whole of sys.path here and leaves out which module it was.
            text = (
                f"custom_imports cannot be imported: {one_line(error)}. Its folder has to be "
                "job.code_root, or the module installed; otherwise correct its name."
            )
        else:
            text = of_a_checkout(text)
        raise ToolError(f"{path}: {text}") from error


def describe_config(path: str, cfg: Any, model: Any) -> Dict[str, Any]:
    """Return what a config's model is built for, and where the config contradicts itself."""
    from pipeline.train.model.config_check import check_config, expected_frames, joints_of

    head = getattr(model, "cls_head", None)
    return {
        "path": path,
        "backbone": type(getattr(model, "backbone", None)).__name__,
        "head": type(head).__name__,
        "numbers": sum(parameter.numel() for parameter in model.parameters()),
        "classes": getattr(head, "num_classes", None),
        "coarse_classes": getattr(head, "num_coarse", None),
        "joints": joints_of(model) or None,
        "frames": expected_frames(model) or None,
        "problems": check_config(cfg, model),
    }


def fit(tensors: Dict[str, Any], model: Any, least: float) -> Dict[str, Any]:
    """Return what a warm start from these tensors would load."""
    state = model.state_dict()
    report = compare(tensors, state)
    matched = report.pop("matched")
    new = set(rename(tensors, state)) - set(tensors)
    return {
        **report,
        "matched": len(matched),
        "renamed": sum(name in new for name in matched),
        "min_matched": least,
        "would_load": report["matched_share"] >= least,
    }


def _rows(tensors: Dict[str, Any], name: str, dimension: int = 0) -> Any:
    return tensors[name].shape[dimension] if name in tensors else None


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, (int, float)) else None


if __name__ == "__main__":
    sys.exit(serve(inspect))
