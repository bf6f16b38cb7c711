"""Make a prepared store: plan what is missing, estimate its size, make it, summarise it.

Resumable: a pack that is there, whole and of the same source and recipe is kept. The manifest is
written last.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.annotation import Annotation, clip_name, load_annotation
from pipeline.data.encode import LOSSLESS, PROFILES, codec_of, encoder
from pipeline.data.make import PackRecipe, Task, head_of, make, quiet_worker, scaled_joints
from pipeline.data.pool import TaskResult, run
from pipeline.data.sources import ClipSource
from pipeline.data.video import VideoError, frames, video_path
from pipeline.errors import InputError, NotReady
from pipeline.shared.counted import counted
from pipeline.shared.pack import Pack, PackError, replace_file
from pipeline.shared.store import MAKER, MANIFEST, digest_of, pack_path

LIMIT_S = 120.0
#: Clips whose first picture is encoded to estimate what a store will take.
SAMPLED_CLIPS = 8


@dataclasses.dataclass(frozen=True)
class PackingPlan:
    """What there is to do: all tasks, and those that are not done yet."""

    root: Path
    profile: str
    sources: Sequence[ClipSource]
    tasks: Sequence[Task]
    missing: Sequence[Task]
    annotation_sha256: dict[str, str]
    limit: int | None

    @property
    def packs(self) -> Iterator[tuple[Path, Task]]:
        """All packs the finished store has."""
        return ((path, task) for task in self.tasks for path in task.packs)


def plan(
    root: Path,
    sources: Sequence[ClipSource],
    profile: str,
    limit: int | None = None,
    in_full: bool = False,
) -> PackingPlan:
    """Read the annotations and find out which packs are missing.

    Args:
        limit: at most this many clips of each source, for trying.
        in_full: read every byte of the packs that are there, not only their heads.

    Raises:
        InputError, NotReady: an annotation cannot be used, or nothing is to be prepared.
    """
    _refuse_mixed(sources)
    found: dict[Path, Annotation] = {}
    by_video: dict[Path, Task] = {}
    for source in sources:
        annotation = found.setdefault(source.ann_file, load_annotation(source.ann_file))
        codec = PROFILES[profile] if source.kind == "train" else LOSSLESS
        recipe = PackRecipe(codec, source.clip_len, source.compact, fixed=source.kind == "val")
        for clip in annotation.split(source.split)[:limit]:
            name = _safe_name(clip, source)
            video = video_path(source.videos, name)
            task = by_video.setdefault(video, Task(name, clip, video, {}))
            task.packs[pack_path(root, source.kind, name)] = recipe
    tasks = list(by_video.values())
    return PackingPlan(
        root=root,
        profile=profile,
        sources=sources,
        tasks=tasks,
        missing=[left for task in tasks if (left := unfinished(task, in_full)).packs],
        annotation_sha256={path.name: _sha256(path) for path in found},
        limit=limit,
    )


def _refuse_mixed(sources: Sequence[ClipSource]) -> None:
    """Raise InputError if there is nothing to prepare, or more than one chain."""
    if not sources:
        raise InputError("There is nothing to prepare: name a split, such as --train-split train.")
    if len({json.dumps(source.chain(), sort_keys=True) for source in sources}) != 1:
        raise InputError(
            "The loaders of this config sample or cut differently; one store serves one chain. "
            "Prepare them one by one: pcan data prepare --ann FILE --videos DIR"
        )


def _safe_name(clip: dict[str, Any], source: ClipSource) -> str:
    """Return a clip's name; raise InputError if it leads out of the folder of its data set."""
    name = clip_name(clip)
    if os.path.isabs(name) or ".." in Path(name).parts:
        raise InputError(
            f'{source.ann_file}: the clip "{name}" lies outside its folder, which no data set '
            "needs. Nothing was written."
        )
    return name


def unfinished(task: Task, in_full: bool = False) -> Task:
    """Return the task with only those packs that are not there yet, or are stale or damaged."""
    missing = {
        path: recipe
        for path, recipe in task.packs.items()
        if not _made(task, path, recipe, in_full)
    }
    return dataclasses.replace(task, packs=missing)


def _made(task: Task, path: Path, recipe: PackRecipe, in_full: bool) -> bool:
    try:
        with Pack(path) as pack:
            if in_full:
                pack.check()
            found = {**pack.meta, "codec": codec_of(pack.meta)}
            return all(found.get(key) == value for key, value in head_of(task, recipe).items())
    except (OSError, PackError):
        return False


def needed_bytes(todo: PackingPlan) -> int:
    """Estimate what the missing packs will take on the disk.

    A first picture of some clips is encoded as it will be; their packs stand for all.

    Raises:
        NotReady: none of these videos can be decoded.
    """
    sizes = []
    for task in todo.missing[:: max(1, len(todo.missing) // SAMPLED_CLIPS)][:SAMPLED_CLIPS]:
        try:
            sizes.append(_expected_bytes(task))
        except (VideoError, StopIteration):
            continue
    if not sizes:
        first = todo.missing[0].video
        raise NotReady(f"None of {SAMPLED_CLIPS} videos can be decoded; the first is {first}.")
    return int(sum(sizes) / len(sizes) * len(todo.missing))


def _expected_bytes(task: Task) -> int:
    """Return what a clip's packs would take if all its pictures were like the first."""
    picture = next(frames(task.video))
    height, width = picture.shape[:2]
    joints = scaled_joints(task.clip, (height, width))
    total = 0
    for recipe in task.packs.values():
        left, top, right, bottom = recipe.box(joints, (height, width))
        still = encoder(recipe.codec)(picture[top:bottom, left:right])
        total += len(still) * len(recipe.frames(joints.shape[1]))
    return total


def check_disk(todo: PackingPlan, need: int) -> None:
    """Raise NotReady if the packs will not fit."""
    folder = next(p for p in (todo.root, *todo.root.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if need > free:
        raise NotReady(
            f"The packs need about {need / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free. "
            "Name a folder on another disk: --out DIR"
        )


def prepare(
    todo: PackingPlan,
    workers: int,
    max_bad: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    limit_s: float = LIMIT_S,
) -> dict[str, Any]:
    """Make the missing packs and write the manifest.

    Args:
        max_bad: how many clips may fail; they stay on their videos.
        progress: called with clips done and clips in all.
        limit_s: for one clip.

    Returns:
        The manifest.

    Raises:
        NotReady: more clips failed.
    """
    bad: dict[str, str] = {}
    if todo.missing:
        (todo.root / MANIFEST).unlink(missing_ok=True)
    done = len(todo.tasks) - len(todo.missing)
    for outcome in _results(todo.missing, workers, limit_s):
        done += 1
        progress(done, len(todo.tasks))
        if outcome.error is not None:
            bad[outcome.task.name] = outcome.error
            if len(bad) > max_bad:
                raise NotReady(too_many(bad, max_bad))
    manifest = summary(todo, bad)
    text = json.dumps(manifest, indent=1) + "\n"
    replace_file(todo.root / MANIFEST, [text.encode()])
    return manifest


def _results(tasks: Sequence[Task], workers: int, limit_s: float) -> Iterable[TaskResult]:
    workers = max(1, min(workers, len(tasks)))
    return run(make, tasks, workers, limit_s, quiet_worker, expected=(VideoError,))


def too_many(bad: dict[str, str], max_bad: int) -> str:
    """Return which clips failed; what is made stays, so that the next run goes on."""
    shown = "; ".join(list(bad.values())[:5])
    return (
        f"{counted(len(bad), 'clip')} could not be prepared, more than "
        f"--max-bad {max_bad}: {shown}. "
        "Get these videos again, or allow more; what is done is kept."
    )


def summary(todo: PackingPlan, bad: dict[str, str]) -> dict[str, Any]:
    """Return the manifest of a store whose packs are all made."""
    heads, size = [], 0
    counts = dict.fromkeys(("train", "val"), 0)
    for path, task in todo.packs:
        if task.name in bad:
            continue
        kind = path.relative_to(todo.root).parts[0]
        with Pack(path) as pack:
            heads.append((kind, task.name, pack.checksum))
        counts[kind] += 1
        size += path.stat().st_size
    return {
        "schema": 1,
        "maker": MAKER,
        "profile": todo.profile,
        "digest": digest_of(heads),
        "chain": todo.sources[0].chain(),
        "counts": counts,
        "bytes": size,
        "annotations": todo.annotation_sha256,
        "splits": [[source.kind, source.split] for source in todo.sources],
        "limit": todo.limit,
        "skipped": bad,
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
