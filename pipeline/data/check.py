"""Look over a data set before hours are spent on it: annotation, splits, joints, videos.

Every check is a small function that yields findings; nothing is changed.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.annotation import (
    Annotation,
    clip_name,
    joint_form_problem,
    load_annotation,
    why_empty,
)
from pipeline.data.clip_problems import (
    ERROR,
    NOTE,
    WARNING,
    Clips,
    Rows,
    frame_problem,
    is_empty,
    joint_problems,
    label_problems,
)
from pipeline.data.pool import run
from pipeline.data.sources import ClipSource
from pipeline.data.verify import spread
from pipeline.data.video import VideoError, frames, video_path
from pipeline.shared.counted import counted

LIMIT_S = 120.0


@dataclasses.dataclass(frozen=True)
class DataFinding:
    """One thing about a data set, worst first: an error would end a training or falsify it."""

    severity: str
    about: str
    text: str


def check(
    sources: Sequence[ClipSource], decode: int, workers: int = 1, classes: int | None = None
) -> list[DataFinding]:
    """Check everything that needs no training code.

    Args:
        decode: how many videos of each source are decoded, evenly spread.
        classes: how many the model's head has, None if that is not known.

    Raises:
        InputError, NotReady: an annotation cannot be read at all, or lacks a split.
    """
    annotations = {path: load_annotation(path) for path in {s.ann_file for s in sources}}
    found: list[DataFinding] = []
    for source in sources:
        annotation = annotations[source.ann_file]
        clips = annotation.split(source.split)
        about = f"{source.ann_file.name}[{source.split}]"
        found += [DataFinding(s, about, t) for s, t in check_labels(clips, classes)]
        steps = (check_split, check_joints, check_videos)
        for step in steps:
            found += [DataFinding(s, about, t) for s, t in step(source, annotation, clips)]
        found += [
            DataFinding(s, about, t) for s, t in check_decoding(source, clips, decode, workers)
        ]
    found += [DataFinding(WARNING, "splits", text) for text in overlaps(sources, annotations)]
    order = (ERROR, WARNING, NOTE)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def check_split(source: ClipSource, annotation: Annotation, clips: Clips) -> Rows:
    """Clips of the split that the annotation lacks, or has twice."""
    yield NOTE, f"{counted(len(clips), 'clip')}"
    names = [clip_name(clip) for clip in clips]
    listed = annotation.splits.get(source.split or "", names)
    lost = sorted(set(listed) - set(names))
    if lost:
        yield (
            WARNING,
            f"{counted(len(lost), 'clip of the split has', 'clips of the split have')} no "
            f"annotation, first: {lost[0]}",
        )
    twice = [name for name, times in collections.Counter(names).items() if times > 1]
    if twice:
        yield (
            WARNING,
            f"{counted(len(twice), 'clip is', 'clips are')} annotated twice, first: {twice[0]}",
        )
    if not clips:
        yield ERROR, f"the split has no clips: {why_empty(annotation, source.split)}"


def check_labels(clips: Clips, classes: int | None) -> Rows:
    """Labels outside the model's classes, and classes without clips."""
    problems = list(label_problems(clips, classes))
    yield from problems
    counts = collections.Counter(
        int(c["label"]) for c in clips if isinstance(c.get("label"), int | np.integer)
    )
    if counts and not any(severity == ERROR for severity, _ in problems):
        empty = [label for label in range(max(counts)) if label not in counts]
        smallest, largest = min(counts.values()), max(counts.values())
        yield (
            NOTE,
            f"{counted(len(counts), 'class', 'classes')} of {smallest} to "
            f"{counted(largest, 'clip')}",
        )
        if empty:
            yield WARNING, f"no clips of the classes {', '.join(map(str, empty[:10]))}"


def _joints_misfit(clip: dict[str, Any]) -> str | None:
    """Return why a clip's joints are not of the form the chain takes, or do not fit the clip."""
    problem = joint_form_problem(clip)
    if problem is not None:
        return problem
    joints, score = np.asarray(clip["keypoint"]), clip.get("keypoint_score")
    if joints.ndim != 4 or joints.shape[1] != clip.get("total_frames"):
        have, wanted = joints.shape[1], clip["total_frames"]
        return f"{clip_name(clip)}: joints of {have} frames, total_frames is {wanted}"
    if score is not None and np.shape(score) != joints.shape[:3]:
        return f"{clip_name(clip)}: scores {np.shape(score)}, joints {joints.shape}"
    return None


def check_joints(_source: ClipSource, _annotation: Annotation, clips: Clips) -> Rows:
    """Joints of another form than the chain takes, missing or beside the picture."""
    yield from joint_problems(clips)
    forms: collections.Counter[tuple[int, ...]] = collections.Counter()
    broken, missing, outside, count = [], 0, 0, 0
    for clip in (one for one in clips if not is_empty(one) and frame_problem(one) is None):
        problem = _joints_misfit(clip)
        if problem is not None:
            broken.append(problem)
            continue
        joints = np.asarray(clip["keypoint"])
        height, width = clip["img_shape"]
        places = joints[..., :2].astype(np.float32)
        gone = ~np.isfinite(places).all(axis=-1) | (places == 0).all(axis=-1)
        beside = ((places < 0) | (places >= [width, height])).any(axis=-1) & ~gone
        missing, outside, count = missing + gone.sum(), outside + beside.sum(), count + gone.size
        forms[joints.shape[2:]] += 1
    if broken:
        yield (
            ERROR,
            f"{counted(len(broken), 'clip')} whose joints have a wrong form or do not fit, first: "
            f"{broken[0]}",
        )
    if len(forms) > 1:
        yield ERROR, f"joints of different forms: {dict(forms)}"
    if count:
        share, beside_share = missing / count, outside / count
        form = next(iter(forms))
        text = (
            f"{counted(form[0], 'joint')}; {share:.1%} missing, {beside_share:.1%} "
            f"beside the picture"
        )
        yield (WARNING if share > 0.5 or beside_share > 0.2 else NOTE), text


def check_videos(source: ClipSource, _annotation: Annotation, clips: Clips) -> Rows:
    """Videos that are not there."""
    paths = [video_path(source.videos, clip_name(clip)) for clip in clips]
    found = [path for path in paths if path.is_file()]
    if len(found) < len(paths):
        known = set(found)
        lost = [path for path in paths if path not in known]
        yield ERROR, f"{len(lost)} of {len(paths)} videos are missing, first: {lost[0]}"
    empty = [path for path in found if path.stat().st_size == 0]
    if empty:
        many = counted(len(empty), "video is an empty file", "videos are empty files")
        yield ERROR, f"{many}, first: {empty[0]}"


def check_decoding(source: ClipSource, clips: Clips, count: int, workers: int) -> Rows:
    """Decode some videos: damage, frame counts, sizes."""
    known = [c for c in clips if frame_problem(c) is None]
    some = [(video_path(source.videos, clip_name(c)), int(c["total_frames"])) for c in known]
    some = spread([one for one in some if one[0].is_file()], count)
    if not some:
        return
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    for done in run(measure, some, min(workers, len(some)), LIMIT_S, expected=(VideoError,)):
        path, total = done.task
        if done.error is not None:
            text = done.error if str(path) in done.error else f"{path}: {done.error}"
            yield ERROR, text
            continue
        decoded, size = done.result
        sizes[size] += 1
        if decoded < total:
            yield ERROR, f"{path} has {decoded} frames, its annotation {total}"
        elif decoded > total:
            yield NOTE, f"{path} has {decoded} frames, its annotation only {total}"
    shown = ", ".join(f"{width}x{height} ({n})" for (height, width), n in sizes.most_common(4))
    yield NOTE, f"{counted(len(some), 'video')} decoded: {shown}"


def measure(task: tuple[Path, int]) -> tuple[int, tuple[int, int]]:
    """Return a video's decodable frames and its size."""
    number, size = 0, (0, 0)
    for picture in frames(task[0]):
        number, size = number + 1, (picture.shape[0], picture.shape[1])
    return number, size


def overlaps(sources: Sequence[ClipSource], annotations: dict[Path, Annotation]) -> Iterator[str]:
    """Clips that are both trained and validated on."""
    by_kind: dict[str, set[str]] = {"train": set(), "val": set()}
    for source in sources:
        clips = annotations[source.ann_file].split(source.split)
        by_kind[source.kind] |= {clip_name(clip) for clip in clips}
    both = sorted(by_kind["train"] & by_kind["val"])
    if both:
        yield (
            f"{counted(len(both), 'clip is', 'clips are')} both trained and "
            f"validated on, first: {both[0]}"
        )
