"""What a model must agree on with its annotation: the highest label and the joints, by split.

A large annotation takes seconds and gigabytes to read, so it is read in a process of its own and
the few numbers are kept, by the file's size and time.
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.annotation import Annotation, load_annotation
from pipeline.data.pool import run
from pipeline.errors import InputError, NotReady
from pipeline.shared.files import make_private, read_json, write_json

#: Increased when the kept facts change their form or meaning.
FORM = 2
LIMIT_S = 600.0
#: Where the facts of all clips stand, whatever split they belong to.
ALL = ""


def annotation_facts(path: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """Return `{split: {"clips", "highest_label", "clip", "joints"}}` of an annotation file.

    `clip` names a clip with the highest label; `joints` lists the joint counts that occur.

    Raises:
        NotReady, InputError: as `load_annotation`.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise NotReady(f"The annotation {path} cannot be read: {error.strerror}.") from None
    stamp = f"{FORM}|{path}|{about.st_size}|{about.st_mtime_ns}"
    key = hashlib.sha256(stamp.encode()).hexdigest()
    kept = cache / f"annotation-{key[:32]}.json"
    known = read_json(kept)
    if known is not None:
        return known
    (done,) = run(measure, [path], 1, LIMIT_S, expected=(InputError, NotReady))
    if done.error is not None:
        raise InputError(done.error)
    with contextlib.suppress(OSError):  # a full disk: the file is read again next time
        make_private(cache)
        write_json(kept, done.result, durable=False)
    return dict(done.result)


def measure(path: Path) -> dict[str, dict[str, Any]]:
    """Read the file and reduce each split to a few numbers."""
    annotation = load_annotation(path)
    return {name: _facts(annotation, name or None) for name in (ALL, *annotation.splits)}


def _facts(annotation: Annotation, split: str | None) -> dict[str, Any]:
    highest, holder, joints = -1, None, set()
    clips = annotation.split(split)
    for clip in clips:
        label = clip.get("label")
        if isinstance(label, int | np.integer) and int(label) > highest:
            highest, holder = int(label), str(clip.get("frame_dir", clip.get("filename")))
        shape = np.shape(clip.get("keypoint", ()))
        if len(shape) == 4:
            joints.add(int(shape[2]))
    return {
        "clips": len(clips),
        "highest_label": highest,
        "clip": holder,
        "joints": sorted(joints),
    }
