"""Make the demo set: short clips of drawn, moving people with their joints.

The same parameters give the same files. The set is built beside its place and renamed, so
a folder either holds a whole set or none.
"""

import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.motions import ACTIONS, Action, Floats, perform
from pipeline.data.render import Camera, Look, background, draw_person
from pipeline.errors import InputError

#: Goes up whenever the same parameters would give other files.
GENERATOR = 1
SIZE = 96
FPS = 15
META = "meta.json"

Progress = Callable[[int, int], None]


def make_demo(
    folder: Path, clips: int = 60, seed: int = 0, progress: Progress | None = None
) -> bool:
    """Write a labelled set of `clips` clips an action into `folder`.

    Args:
        folder: gets `ann.pkl` (MMAction2's pose annotation with the splits `train` and
            `val`), `classes.txt`, `meta.json` and `videos/`.
        clips: of each of the eight actions; the first half is for training.
        progress: called with clips done and clips in all.

    Returns:
        False if the set was there already and nothing had to be done.

    Raises:
        InputError: the folder holds something else, or a set with other parameters.
    """
    meta = describe(clips, seed)
    if finished(folder, meta):
        return False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.parent).close()
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}. Name another.") from None
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        draft = Path(temporary) / "set"
        _write_set(draft, clips, seed, progress or (lambda _done, _total: None))
        (draft / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        try:
            os.replace(draft, folder)  # takes the place of an empty folder too
        except OSError:
            # Another process may have finished the same set first.
            return not finished(folder, meta)
    return True


def describe(clips: int, seed: int) -> dict[str, Any]:
    """Return what decides every byte of a set."""
    if clips < 2:
        raise InputError(f"--clips is {clips}; an action needs at least 2, one for validation.")
    names = [action.name for action in ACTIONS]
    return {"generator": GENERATOR, "clips": clips, "seed": seed, "size": SIZE, "classes": names}


def finished(folder: Path, meta: dict[str, Any]) -> bool:
    """Return whether `folder` holds this very set; refuse a folder with anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if found == meta:
        return True
    what = "a demo set with other parameters" if isinstance(found, dict) else "other files"
    raise InputError(f"{folder} holds {what}. Name another folder, or remove this one first.")


def _write_set(folder: Path, clips: int, seed: int, progress: Progress) -> None:
    (folder / "videos").mkdir(parents=True)
    split: dict[str, list[str]] = {"train": [], "val": []}
    annotations = []
    total = clips * len(ACTIONS)
    for index in range(total):
        label, number = index % len(ACTIONS), index // len(ACTIONS)
        name = f"{ACTIONS[label].name}_{number:03d}"
        rng = np.random.default_rng([seed, label, number])
        annotations.append(_write_clip(folder / "videos", name, label, rng))
        split["train" if number < (clips + 1) // 2 else "val"].append(name)
        progress(index + 1, total)
    with open(folder / "ann.pkl", "wb") as stream:
        pickle.dump({"split": split, "annotations": annotations}, stream, protocol=4)
    names = "".join(f"{action.name}\n" for action in ACTIONS)
    (folder / "classes.txt").write_text(names, encoding="utf-8")


def _write_clip(folder: Path, name: str, label: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write one video and return its annotation."""
    action, frames = ACTIONS[label], int(rng.integers(28, 45))
    camera = Camera.draw(SIZE, rng)
    pixels = camera.project(perform(action, frames, rng))
    _write_video(folder / f"{name}.mp4", action, pixels, camera.scale, rng)
    joints, score = _as_measured(pixels, camera.scale, rng)
    return {
        "frame_dir": name,
        "label": label,
        "img_shape": (SIZE, SIZE),
        "original_shape": (SIZE, SIZE),
        "total_frames": frames,
        "keypoint": joints[None].astype(np.float16),
        "keypoint_score": score[None].astype(np.float16),
    }


def _write_video(
    path: Path, action: Action, pixels: Floats, scale: float, rng: np.random.Generator
) -> None:
    import cv2

    cv2.setNumThreads(1)
    look, empty = Look.draw(rng), background(SIZE, rng)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (SIZE, SIZE))
    if not writer.isOpened():
        raise OSError(f"OpenCV cannot write {path} (mp4v).")
    for joints in pixels:
        frame = empty.copy()
        draw_person(frame, joints, look, scale, action.held)
        noisy = frame + rng.integers(-4, 5, frame.shape, dtype=np.int16)
        writer.write(np.clip(noisy, 0, 255).astype(np.uint8))
    writer.release()


def _as_measured(pixels: Floats, scale: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return joints and scores as a pose estimator would: jitter, and some joints missed."""
    joints = pixels + rng.normal(0, 0.02 * scale, pixels.shape)
    score = rng.uniform(0.6, 1.0, pixels.shape[:-1])
    missed = rng.uniform(size=score.shape) < 0.03
    joints[missed], score[missed] = 0, 0
    return joints, score
