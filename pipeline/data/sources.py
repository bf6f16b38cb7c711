"""Which clips a config, or the command line, asks to have prepared."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.crop_region import Compact


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """The clips of one loader: a split of an annotation and its videos."""

    kind: str  # "train" or "val", as in `store.KINDS`
    ann_file: Path
    split: str | None
    videos: str
    clip_len: dict[str, int]
    compact: Compact

    def chain(self) -> dict[str, Any]:
        """Return what regions are proven for, in the form of `pipeline.train.data_chain`."""
        compact = dataclasses.asdict(self.compact)
        if self.compact.hw_ratio is not None:
            compact["hw_ratio"] = list(self.compact.hw_ratio)
        return {"clip_len": self.clip_len, "compact": compact}


def of_config(loaders: Sequence[Mapping[str, Any]], root: Path) -> list[ClipSource]:
    """Return the sources of a config's loaders, as `pipeline.train.tools.data_facts` returns them.

    Loaders that show the same clips in the same way are one source; a test loader that shows
    other frames than the validation is left to the videos.

    Args:
        root: what the config's paths are relative to.
    """
    found: list[ClipSource] = []
    for loader in loaders:
        if not loader["packed"]:
            continue
        compact = dict(loader["chain"]["compact"])
        if compact["hw_ratio"] is not None:
            compact["hw_ratio"] = tuple(compact["hw_ratio"])
        source = ClipSource(
            kind=loader["kind"],
            ann_file=root / loader["ann_file"],
            split=loader["split"],
            videos=str(root / loader["videos"]),
            clip_len=dict(loader["chain"]["clip_len"]),
            compact=Compact(**compact),
        )
        if source not in found:
            found.append(source)
    return found


def of_files(ann_file: Path, videos: Path, train: str | None, val: str | None) -> list[ClipSource]:
    """Return sources by their files, for the stock RGBPoseConv3D chain (8 and 32 frames)."""
    splits = [("train", train), ("val", val)]
    return [
        ClipSource(kind, ann_file, split, str(videos), {"RGB": 8, "Pose": 32}, Compact())
        for kind, split in splits
        if split is not None
    ]
