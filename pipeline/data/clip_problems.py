"""What is wrong with the labels and joints of clips, for `pcan doctor` and `pcan data check`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.data.annotation import clip_name, joint_form_problem
from pipeline.shared.counted import counted

ERROR, WARNING, NOTE = "error", "warning", "note"
#: How many names of bad clips a message lists beside their number.
NAMED = 3
#: Joints written as shares of the picture's size lie within it, or little beside it.
_SHARE = 1.5
Clips = Sequence[dict[str, Any]]
Rows = Iterator[tuple[str, str]]


def label_problems(clips: Clips, classes: int | None) -> Rows:
    """Yield severity and sentence about labels outside the model's classes.

    Args:
        classes: how many the model's head has, None if that is not known.
    """
    written = [c for c in clips if not _fits(c.get("label"), None) and _as_number(c) is not None]
    if written and len(written) == len(clips):
        kind = type(written[0]["label"]).__name__
        yield (
            ERROR,
            f"the labels are of the type {kind} ({clip_name(written[0])}: "
            f"{written[0]['label']!r}), wanted are whole numbers: label = int(label).",
        )
        return
    bad = [c for c in clips if not _fits(c.get("label"), classes)]
    numbers = [int(c["label"]) for c in clips if _fits(c.get("label"), None)]
    from_one = bool(numbers) and min(numbers) >= 1
    hint = "The labels begin at 1, and classes count from 0: subtract 1 from each label."
    if bad:
        names = ", ".join(f"{clip_name(c)} (label {c.get('label')!r})" for c in bad[:NAMED])
        place = f"outside 0...{classes - 1}" if classes else "that is not a class number"
        remedy = hint if from_one else "Use the annotation that belongs to the config's head."
        yield (
            ERROR,
            f"{len(bad)} of {counted(len(clips), 'clip')} have a label {place}: "
            + (f"{names}. {remedy}"),
        )
    elif from_one and min(numbers) == 1:
        yield (
            WARNING,
            f"No clip has the label 0. {hint} If there are none of class 0, all is well.",
        )


def joint_problems(clips: Clips) -> Rows:
    """Yield severity and sentence about clips whose size, length or joints say nothing."""
    wrong = [text for c in clips if (text := frame_problem(c))]
    if wrong:
        have = counted(len(wrong), "clip has", "clips have")
        yield ERROR, f"{have} no usable size or length, first: {wrong[0]}."
    yield from _named(clips, is_empty, ERROR, "no joints: {}.")
    usable = [c for c in clips if not is_empty(c) and joint_form_problem(c) is None]
    values = {id(c): np.asarray(c["keypoint"], np.float32) for c in usable}
    yield from _named(
        usable,
        lambda c: bool(np.isnan(values[id(c)]).any()),
        WARNING,
        "joints that are NaN: {}. They count as missing joints.",
    )
    yield from _named(
        usable,
        lambda c: bool(np.isinf(values[id(c)]).any()),
        ERROR,
        "joints that are infinite: {}. Write 0 for a joint that was not found.",
    )
    yield from _named(
        usable,
        _has_nan_score,
        WARNING,
        "scores that are NaN: {}. Where the config uses scores, its heatmaps and its loss become "
        "NaN; write 0.",
    )
    yield from _fractions(usable, values)
    yield from _named(
        usable,
        lambda c: not values[id(c)].any(),  # NaN counts as something: it was named above
        WARNING,
        "no person in any frame (all joints are 0): {}. The model learns their labels from "
        "nothing; leave them out of the split.",
    )


def frame_problem(clip: dict[str, Any]) -> str | None:
    """Return how a clip's picture size or number of frames is absent or unusable, or None."""
    name, frames = clip_name(clip), clip.get("total_frames")
    size: Any = clip.get("img_shape")
    if np.shape(size) != (2,) or not all(_above_0(n) for n in size):
        return f"{name}: img_shape is {size!r}, wanted is (height, width)"
    if not _above_0(frames):
        return f"{name}: total_frames is {frames!r}, wanted is a whole number from 1"
    return None


def _above_0(value: Any) -> bool:
    number = isinstance(value, int | float | np.number)
    return number and bool(value >= 1) and float(value).is_integer()


def _has_nan_score(clip: dict[str, Any]) -> bool:
    score = clip.get("keypoint_score")
    return (
        isinstance(score, np.ndarray) and score.dtype.kind == "f" and bool(np.isnan(score).any())
    )


def _fractions(clips: Clips, values: dict[int, Any]) -> Rows:
    """Yield a warning where the joints of all clips are shares of the picture."""
    tops = [float(np.abs(values[id(c)]).max()) for c in clips]
    seen = [top for top in tops if top > 0]
    if seen and max(seen) <= _SHARE and all(frame_problem(c) is None for c in clips):
        smallest = min(min(c["img_shape"]) for c in clips)
        if smallest > 10 * _SHARE:
            yield (
                WARNING,
                f"no joint of any clip lies beyond {max(seen):.3g}: they look like shares of the "
                "picture, wanted are pixels of img_shape.",
            )


def _named(clips: Clips, bad: Callable[[Any], bool], severity: str, text: str) -> Rows:
    found = [clip_name(c) for c in clips if bad(c)]
    if found:
        names = ", ".join(found[:NAMED])
        yield (
            severity,
            f"{counted(len(found), 'clip has', 'clips have')} {text}".replace("{}", names),
        )


def is_empty(clip: dict[str, Any]) -> bool:
    """Return whether a clip has no joints at all."""
    joints = clip.get("keypoint")
    return joints is None or not np.size(joints)


def _as_number(clip: dict[str, Any]) -> int | None:
    """Return the whole number that a label of another type stands for, None without one."""
    label = clip.get("label")
    try:
        return int(label) if not isinstance(label, bool) and float(label) == int(label) else None  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _fits(label: Any, classes: int | None) -> bool:
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        return False
    return bool(label >= 0 and (classes is None or label < classes))
