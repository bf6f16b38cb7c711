"""What is wrong with the labels and joints of clips, for `pcan doctor` and `pcan data check`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.data.annotation import clip_name, joint_form_problem
from pipeline.shared.counted import counted

ERROR, WARNING, NOTE = "error", "warning", "note"
#: How many names of bad clips a message lists beside their number.
NAMED = 3
Clips = Sequence[dict[str, Any]]
Rows = Iterator[tuple[str, str]]


def label_problems(clips: Clips, classes: int | None) -> Rows:
    """Yield severity and sentence about labels outside the model's classes.

    Args:
        classes: how many the model's head has, None if that is not known.
    """
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
    """Yield severity and sentence about clips whose joints are absent, or say nothing."""
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
        lambda c: not values[id(c)].any(),  # NaN counts as something: it was named above
        WARNING,
        "no person in any frame (all joints are 0): {}. The model learns their labels from "
        "nothing; leave them out of the split.",
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


def _fits(label: Any, classes: int | None) -> bool:
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        return False
    return bool(label >= 0 and (classes is None or label < classes))
