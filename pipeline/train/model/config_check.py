"""What a PCAN config must fulfil, each fault in one sentence.

The head's options are checked when it is built; that model and data agree, by `check_config`.
"""

from numbers import Real
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from pipeline.shared.counted import counted

_WEIGHTS = "[rgb, pose, rgb_coarse, pose_coarse]"


def check_class_tree(num_classes: int, fine_to_coarse: Sequence[int]) -> List[int]:
    """Return the coarse class of each fine class as a plain list.

    Raises:
        ValueError: the list does not cover the fine classes, or a coarse class is left out.
    """
    parents = list(fine_to_coarse)
    if len(parents) != num_classes:
        raise ValueError(
            f"cls_head.fine_to_coarse has {len(parents)} entries for num_classes "
            f"{num_classes}. Give the coarse class of each fine class, in their order."
        )
    bad = [value for value in parents if type(value) is not int or value < 0]
    if bad:
        raise ValueError(
            f"cls_head.fine_to_coarse holds {bad[0]!r}; coarse classes are whole numbers from 0."
        )
    unused = sorted(set(range(max(parents) + 1)) - set(parents))
    if unused:
        raise ValueError(
            f"cls_head.fine_to_coarse uses no coarse class {unused[0]} but goes up to "
            f"{max(parents)}. Number the coarse classes without a gap."
        )
    if max(parents) == 0:
        raise ValueError(
            "cls_head.fine_to_coarse puts every class into one coarse class; PCAN needs at "
            "least two."
        )
    return parents


def check_head_options(
    in_channels: Sequence[int],
    loss_weights: Any,
    prototype_channels: Sequence[int],
    gamma: Dict[str, float],
    others: Dict[str, Any],
) -> None:
    """Refuse weights, widths and MMAction2 options that PCAN's losses cannot honour."""
    if not isinstance(loss_weights, (list, tuple)) or len(loss_weights) != 4:
        raise ValueError(f"cls_head.loss_weights is {loss_weights!r}; PCAN has four: {_WEIGHTS}.")
    for weight in loss_weights:
        if (
            isinstance(weight, bool)
            or not isinstance(weight, Real)
            or not 0 <= float(weight) < 1e6
        ):
            raise ValueError(
                f"cls_head.loss_weights holds {weight!r}; each of {_WEIGHTS} is a number >= 0."
            )
    for name, pair in (("in_channels", in_channels), ("prototype_channels", prototype_channels)):
        if len(pair) != 2 or any(type(width) is not int or width < 1 for width in pair):
            raise ValueError(f"cls_head.{name} is {list(pair)!r}; two whole numbers are needed.")
    if set(gamma) != {"rgb", "pose"}:
        raise ValueError(f"cls_head.gamma is {gamma!r}; give one number for rgb and one for pose.")
    _check_unsupported(others)


def _check_unsupported(others: Dict[str, Any]) -> None:
    if others.get("label_smooth_eps"):
        raise ValueError(
            f"cls_head.label_smooth_eps is {others['label_smooth_eps']}; PCAN's prototypes need "
            "hard labels. Remove it."
        )
    if others.get("multi_class"):
        raise ValueError("cls_head.multi_class is set; PCAN learns one class a sample. Remove it.")
    loss = dict(others.get("loss_cls") or {"type": "CrossEntropyLoss"})
    if loss != {"type": "CrossEntropyLoss"}:
        raise ValueError(
            f"cls_head.loss_cls is {loss!r}; PCAN's terms are built on the plain cross-entropy. "
            "Remove it and set loss_weights."
        )
    parts = others.get("loss_components")
    if parts is not None and list(parts) != ["rgb", "pose"]:
        raise ValueError(f"cls_head.loss_components is {parts!r}; PCAN's are fixed. Remove it.")


def check_config(cfg: Any, model: Any) -> List[str]:
    """Return one sentence for each contradiction between model and data; none if all is well.

    Args:
        cfg: an MMEngine config.
        model: what was built from `cfg.model`.
    """
    found = []
    backbone: Any = getattr(model, "backbone", None)
    head: Any = getattr(model, "cls_head", None)
    widths = getattr(backbone, "out_channels", None)
    if isinstance(widths, tuple) and list(widths) != list(getattr(head, "in_channels", widths)):
        found.append(
            f"model.cls_head.in_channels is {list(head.in_channels)} but the backbone gives "
            f"{list(widths)}."
        )
    frames = expected_frames(model)
    joints = joints_of(model)
    for place, step in _steps(cfg):
        clip = step.get("clip_len")
        if frames and step.get("type") == "MMUniformSampleFrames" and dict(clip) != frames:
            found.append(
                f"{place} samples clips of {dict(clip)}, the backbone is built for {frames}. Set "
                "model.backbone.rgb_frames and pose_frames, or clip_len."
            )
        highest = max([*(step.get("left_kp") or ()), *(step.get("right_kp") or ()), -1])
        if joints and highest >= joints:
            found.append(
                f"{place} flips joint {highest}, the backbone is built for "
                f"{counted(joints, 'joint')} "
                "(0 is the first). Set model.backbone.pose_pathway.in_channels or the lists."
            )
    return found


def expected_frames(model: Any) -> Dict[str, int]:
    """Return the clip lengths the cross-modal blocks are built for; empty without blocks."""
    backbone: Any = getattr(model, "backbone", None)
    if getattr(backbone, "cross2", None) is None:
        return {}
    return {"RGB": backbone.rgb_frames, "Pose": backbone.pose_frames}


def joints_of(model: Any) -> int:
    """Return the joints of the pose pathway; 0 for a model without one."""
    pathway = getattr(getattr(model, "backbone", None), "pose_path", None)
    return pathway.conv1.conv.in_channels if pathway is not None else 0


def _steps(cfg: Any) -> Iterator[Tuple[str, Any]]:
    """Yield every pipeline step with the loader it belongs to."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = (cfg.get(name) or {}).get("dataset") or {}
        while "pipeline" not in dataset and "dataset" in dataset:
            dataset = dataset["dataset"]
        for step in dataset.get("pipeline") or ():
            yield name, step
