"""Several views of each clip at test: more clips of the video, and their mirrored copies.

The loader's pipeline shows them and the head averages their scores, so that an exported config
shows the same by itself.
"""

import copy
from typing import Any, Dict, List, Optional

#: Steps that turn pictures and joints into tensors: mirroring has to come before.
_FORMAT = ("PoseHeatmaps", "GeneratePoseTarget", "ShipJoints", "FormatShape", "PackActionInputs")
MIRROR = "MirroredToo"


class ViewError(Exception):
    """Why a config cannot show a clip in this way; one sentence without its full stop."""


def with_views(config: Any, split: str, clips: int = 1, flip: bool = False) -> None:
    """Make a loaded config show each clip of a split in several views, in place.

    Args:
        clips: clips of each video.
        flip: also show each clip mirrored.

    Raises:
        ViewError: the config has nothing that could show or average them.
    """
    if clips == 1 and not flip:
        return
    head = (config["model"].get("cls_head") or {}) if config.get("model") else {}
    if head.get("average_clips", "prob") is None:
        raise ViewError("the head averages no clips (average_clips is None)")
    loader = config[f"{split}_dataloader"]
    dataset = _innermost(loader["dataset"])
    pipeline = [copy.deepcopy(dict(one)) for one in dataset.get("pipeline") or []]
    if clips > 1:
        _sampler(pipeline)["num_clips"] = clips
    if flip:
        _mirror(pipeline, _flip_of_training(config))
    dataset["pipeline"] = pipeline
    views = clips * (2 if flip else 1)
    loader["batch_size"] = max(1, int(loader.get("batch_size", 1)) // views)


def refusal(config: Any, split: str, clips: int = 1, flip: bool = False) -> Optional[str]:
    """Return why `with_views` cannot do it, None if it can; changes nothing."""
    try:
        with_views(copy.deepcopy(config), split, clips, flip)
    except ViewError as error:
        return str(error)
    return None


def _innermost(dataset: Any) -> Any:
    """Return the data set's config inside wrappers such as RepeatDataset."""
    while "pipeline" not in dataset and isinstance(dataset.get("dataset"), dict):
        dataset = dataset["dataset"]
    return dataset


def _sampler(pipeline: List[Dict[str, Any]]) -> Dict[str, Any]:
    found = next((one for one in pipeline if str(one["type"]).endswith("SampleFrames")), None)
    if found is None or not found.get("test_mode"):
        raise ViewError("its pipeline has no step that samples frames in test mode")
    if found.get("num_clips", 1) != 1:
        raise ViewError(f"it shows {found['num_clips']} views of a video already")
    return found


def _flip_of_training(config: Any) -> Dict[str, Any]:
    """Return the mirroring that training knows."""
    train = _innermost((config.get("train_dataloader") or {}).get("dataset") or {})
    steps = train.get("pipeline") or []
    flip = next((one for one in steps if one["type"] == "Flip"), None)
    if flip is None:
        raise ViewError("its training mirrors no clip, so a mirrored one is nothing it knows")
    if flip.get("flip_label_map"):
        raise ViewError("mirroring changes labels in this config (flip_label_map)")
    return {key: list(flip[key]) for key in ("left_kp", "right_kp") if flip.get(key)}


def _mirror(pipeline: List[Dict[str, Any]], joints: Dict[str, Any]) -> None:
    places = [i for i, one in enumerate(pipeline) if one["type"] in _FORMAT]
    if not places:
        raise ViewError("its pipeline has no step before which clips could be mirrored")
    pipeline.insert(places[0], {"type": MIRROR, **joints})
