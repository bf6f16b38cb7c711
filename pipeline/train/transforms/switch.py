"""Switch a config from videos to a prepared store: `data: {store: prepared}` in a sweep file."""

import os
from typing import Any, Dict, List, Optional

from pipeline.shared.store import StoreError, read_manifest, store_record
from pipeline.train.data_chain import (
    DECODE,
    HEATMAPS,
    LOADERS,
    ChainError,
    chain_of,
    shows_fixed_frames,
    step,
    videos_of,
)

REGISTERING = "pipeline.train.transforms"


def use_store(
    config: Any, root: str, ship_joints: bool = True, workers: Optional[int] = None
) -> Dict[str, Optional[str]]:
    """Make a loaded config read the packs of a store; everything drawn at random stays the same.

    In place: `MMDecode` becomes `PackDecode`. With `ship_joints` the heatmaps are drawn by the
    data preprocessor (where the config's parts allow it), else by `PoseHeatmaps` in the loader.
    A test loader that shows several clips of a video stays on the videos.

    Args:
        config: an MMEngine Config, or a dict of its form.
        root: folder of the store.
        workers: loader processes, in place of the config's own number.

    Returns:
        The record of the store: `store`, `profile`, `digest`.

    Raises:
        StoreError: the store is unfinished, or not proven for this chain.
    """
    manifest = read_manifest(root)
    register(config)
    loaders = {name: config[name] for name in LOADERS if config.get(name)}
    ship = shipping(config, loaders) if ship_joints else None
    for name, loader in loaders.items():
        dataset = loader["dataset"]
        pipeline = [dict(one) for one in dataset["pipeline"]]
        if LOADERS[name] == "train" or shows_fixed_frames(pipeline):
            packs = os.path.join(os.path.abspath(root), LOADERS[name])
            _decode_packs(pipeline, manifest, packs, videos_of(dataset))
        dataset["pipeline"] = [with_heatmaps(one, ship) for one in pipeline]
        if workers is not None:
            set_workers(loader, workers)
    if ship is not None:
        config["model"]["data_preprocessor"].update(
            type="DrawJointsPreprocessor", sigma=ship["sigma"], scaling=ship["scaling"]
        )
    return store_record(root)


def _decode_packs(
    pipeline: List[Dict[str, Any]], manifest: Dict[str, Any], packs: str, videos: str
) -> None:
    """Make a chain read packs; raise StoreError if the store is not proven for it."""
    check_chain(pipeline, manifest)
    decode = step(pipeline, DECODE)
    assert decode is not None, "check_chain has found it"
    pose_frames = manifest["chain"]["clip_len"]["Pose"]
    decode.update(type="PackDecode", packs=packs, videos=videos, pose_frames=pose_frames)


def use_spec(config: Any, data: Optional[Dict[str, Any]], workers: Optional[int] = None) -> None:
    """Apply the `data` of a trial's specification (`pipeline.shared.store.spec_data`) to a config.

    Raises:
        StoreError: the store is not the one the trial was started on.
    """
    if not data or data.get("store") != "prepared":
        return
    found = use_store(config, data["packs"], workers=workers)
    if found["digest"] != data["digest"]:
        raise StoreError(
            f"The store {data['packs']} has changed since this trial began (digest "
            f"{str(found['digest'])[:12]}, was {data['digest'][:12]}). Put the old one back, or "
            "start the sweep again."
        )


def register(config: Any) -> None:
    """Have the config import this package, so that its types are known wherever it is built."""
    named = dict(config.get("custom_imports") or {"allow_failed_imports": False})
    imports = list(named.get("imports") or [])
    if REGISTERING not in imports:
        imports.append(REGISTERING)
    config["custom_imports"] = {**named, "imports": imports}


def check_chain(pipeline: List[Dict], manifest: Dict[str, Any]) -> None:
    """Raise StoreError if a store's regions are not proven for what this chain draws."""
    try:
        chain = chain_of(pipeline)
    except ChainError as error:
        raise StoreError(str(error)) from error
    if chain != manifest["chain"]:
        raise StoreError(
            f"The store was made for {manifest['chain']}, the config asks for {chain}. "
            "Make a store for this config: pcan data prepare"
        )


def shipping(config: Any, loaders: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Return the heatmaps' settings if all loaders may ship joints instead, else None."""
    if config["model"]["data_preprocessor"]["type"] != "MultiModalDataPreprocessor":
        return None
    settings = []
    for loader in loaders.values():
        pipeline = loader["dataset"]["pipeline"]
        maps, pack = step(pipeline, *HEATMAPS), step(pipeline, "PackActionInputs")
        if maps is None or pack is None or "heatmap_imgs" not in (pack.get("collect_keys") or ()):
            return None
        if maps.get("with_limb") or maps.get("double") or not maps.get("with_kp", True):
            return None
        settings.append(
            {
                "sigma": maps.get("sigma", 0.6),  # GeneratePoseTarget's own defaults
                "scaling": maps.get("scaling", 1.0),
                "use_score": maps.get("use_score", True),
            }
        )
    return settings[0] if settings and all(one == settings[0] for one in settings) else None


def with_heatmaps(one: Dict, ship: Optional[Dict[str, Any]]) -> Dict:
    """Return a step as it is with joints shipped, or with heatmaps drawn at once."""
    if one["type"] in HEATMAPS:
        if ship is None:
            return {**one, "type": "PoseHeatmaps"}
        return {"type": "ShipJoints", "scaling": ship["scaling"], "use_score": ship["use_score"]}
    if one["type"] == "PackActionInputs" and ship is not None:
        keys = ["joints" if key == "heatmap_imgs" else key for key in one["collect_keys"]]
        return {**one, "collect_keys": tuple(keys)}
    return one


def set_workers(loader: Any, workers: int) -> None:
    """Set the number of loader processes; with none they cannot persist."""
    loader["num_workers"] = workers
    loader["persistent_workers"] = workers > 0
