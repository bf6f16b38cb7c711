"""What the parts of a PCAN config must agree on; each part alone is checked where it is built."""

from typing import Any, Dict, Iterator, List, Tuple


def check_config(cfg: Any, model: Any) -> List[str]:
    """Return one sentence for each contradiction between model and data; none if all is well.

    Args:
        cfg: an MMEngine config.
        model: what was built from `cfg.model`.
    """
    found = []
    backbone, head = getattr(model, "backbone", None), getattr(model, "cls_head", None)
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
                f"{place} flips joint {highest}, the backbone is built for {joints} joints "
                "(0 is the first). Set model.backbone.pose_pathway.in_channels or the lists."
            )
    return found


def expected_frames(model: Any) -> Dict[str, int]:
    """Return the clip lengths the cross-modal blocks are built for; empty without blocks."""
    backbone = getattr(model, "backbone", None)
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
