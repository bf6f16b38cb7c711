"""What a PCAN config must fulfil, told in one sentence when the model is built."""

from numbers import Real
from typing import Any, Dict, List, Sequence

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
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= weight < 1e6:
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
