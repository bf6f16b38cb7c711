"""What a config says about its samples: loaders, files, sampler, cut. Plain dicts, no torch."""

import os
from typing import Any, Dict, List, Optional

#: Loaders and which packs they read.
LOADERS = {"train_dataloader": "train", "val_dataloader": "val", "test_dataloader": "val"}
HEATMAPS = ("GeneratePoseTarget", "PoseHeatmaps")
SAMPLER, DECODE, COMPACT = "MMUniformSampleFrames", "MMDecode", "MMCompact"
# MMCompact's own defaults.
COMPACT_DEFAULTS = {"padding": 0.25, "threshold": 10, "hw_ratio": 1, "allow_imgpad": True}


class ChainError(Exception):
    """A chain that packs cannot serve; the text names the missing or misplaced step."""


def step(pipeline: List[Dict], *types: str) -> Optional[Dict]:
    """Return the first step of one of these types, or None."""
    return next((one for one in pipeline if one["type"] in types), None)


def chain_of(pipeline: List[Dict]) -> Dict[str, Any]:
    """Return what decides which part of a clip is asked for: clip lengths and the cut.

    Raises:
        ChainError: not sampled, decoded and cut by the steps that packs are made for.
    """
    types = [one["type"] for one in pipeline]
    if types[:3] != [SAMPLER, DECODE, COMPACT]:
        raise ChainError(
            f"A prepared store serves pipelines that begin with {SAMPLER}, {DECODE}, {COMPACT}; "
            f"this one begins with {', '.join(types[:3])}. Use data: {{store: video}}."
        )
    sampler, _, compact = pipeline[:3]
    clip_len = {str(key): int(value) for key, value in sampler["clip_len"].items()}
    cut = {key: compact.get(key, default) for key, default in COMPACT_DEFAULTS.items()}
    ratio = cut["hw_ratio"]
    if ratio is not None:
        cut["hw_ratio"] = [
            float(r) for r in (ratio if isinstance(ratio, (list, tuple)) else [ratio] * 2)
        ]
    return {"clip_len": clip_len, "compact": cut}


def shows_fixed_frames(pipeline: List[Dict]) -> bool:
    """Return whether a chain shows the same one clip of a video every time."""
    sampler = step(pipeline, SAMPLER) or {}
    standard_seed = sampler.get("seed", 255) == 255
    return bool(sampler.get("test_mode")) and sampler.get("num_clips", 1) == 1 and standard_seed


def videos_of(dataset: Dict) -> str:
    """Return the folder that the data set finds its videos in."""
    prefix = (dataset.get("data_prefix") or {}).get("video", "")
    return os.path.join(dataset.get("data_root") or "", prefix)


def facts(config: Any) -> List[Dict[str, Any]]:
    """Return one record a loader: where its clips are and which frames it asks for."""
    found = []
    for name, kind in LOADERS.items():
        loader = config.get(name)
        if not loader:
            continue
        dataset = loader["dataset"]
        fixed = shows_fixed_frames(dataset["pipeline"])
        found.append(
            {
                "loader": name,
                "kind": kind,
                "packed": kind == "train" or fixed,
                "ann_file": os.path.join(dataset.get("data_root") or "", dataset["ann_file"]),
                "split": dataset.get("split"),
                "videos": videos_of(dataset),
                "chain": chain_of(dataset["pipeline"]),
                "batch_size": loader.get("batch_size", 1),
                "num_workers": loader.get("num_workers", 0),
            }
        )
    return found
