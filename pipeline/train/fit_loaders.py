"""How a job's samples are loaded: by how many processes, how many at a time, from what.

Nothing here changes what is drawn: with loader processes a sample's random numbers depend on its
index alone (`seeding`), and the size of a validation batch changes predictions by rounding only.
An error of a sample names its clip: which of 40,000 it was is the first question.
"""

import os
from typing import Any, Dict, List, Optional, Tuple

from mmengine.dataset import Compose

from pipeline.shared.counted import counted
from pipeline.shared.loader_workers import suggest_workers
from pipeline.shared.spec import TrialSpec
from pipeline.train.data_chain import COMPACT, LOADERS, shows_fixed_frames, step

#: Of a validation batch; the gain beyond is small (launches of a forward pass are shared).
MAX_VAL_BATCH = 8
#: As data sets of MMAction2 call a clip, the most telling first.
CLIP_NAMES = ("frame_dir", "filename", "img_path", "video_path", "frame_path")


def fit_loaders(config: Any, spec: TrialSpec) -> List[str]:
    """Set loader processes and the validation's batch size unless the user named them.

    Args:
        spec: `loading` in it has `slots`, jobs that share this machine, and `named`, the config
            paths that the sweep file or `--set` gives a value; without it nothing is changed.

    Returns:
        What was set, in sentences.
    """
    loading = spec.loading
    if loading is None:
        return []
    prepared = spec.reads_packs
    cores = len(os.sched_getaffinity(0))
    workers = suggest_workers(cores, int(loading.get("slots") or 1), spec.nproc or 1, prepared)
    named = set(loading.get("named") or ())
    changes = fit_workers(config, workers, named)
    size = validation_batch(config)
    if size is not None and "val_dataloader.batch_size" not in named:
        config["val_dataloader"]["batch_size"] = size
        changes.append(f"Validating {counted(size, 'sample')} at a time; the config has 1.")
    return changes


def fit_workers(config: Any, workers: int, named: Any = ()) -> List[str]:
    """Take fewer loader processes than the config has where fewer do.

    Never more: the config's author knows what the machine's memory bears. Never none: samples
    drawn in the training process itself take their random numbers from another source.
    """
    changes = []
    for name in LOADERS:
        loader = config.get(name) or {}
        had = loader.get("num_workers", 0)
        count = min(had, max(1, workers))
        if count < had and f"{name}.num_workers" not in named:
            loader["num_workers"] = count
            changes.append(f"{name}: num_workers {count} in place of the config's {had}.")
    return changes


def validation_batch(config: Any) -> Optional[int]:
    """Return how many samples to validate at a time, None to leave it to the config.

    Samples have one shape if each shows one clip, cut to a square (or not cut) and resized to a
    fixed size. A batch no larger than training's fits into memory.
    """
    loader, model = config.get("val_dataloader") or {}, config.get("model") or {}
    train = (config.get("train_dataloader") or {}).get("batch_size", 1)
    pipeline = (loader.get("dataset") or {}).get("pipeline") or []
    if loader.get("batch_size", 1) != 1 or model.get("type") != "MMRecognizer3D":
        return None
    if not (shows_fixed_frames(pipeline) and one_shape(pipeline)):
        return None
    return min(MAX_VAL_BATCH, train) if train > 1 else None


def one_shape(pipeline: List[Dict]) -> bool:
    """Return whether all samples of a validation chain end with one height and width."""
    resizes = [one for one in pipeline if one["type"] == "Resize"]
    fixed = bool(resizes) and resizes[-1].get("keep_ratio", True) is False
    return fixed and step(pipeline, COMPACT) is not None


class PackMisses:
    """Counts samples that were read from videos although packs were asked for, by epoch."""

    def __init__(self) -> None:
        self._before = 0

    def since_last(self, runner: Any) -> int:
        """Return this rank's count since the last call."""
        from pipeline.train.transforms import fallbacks_of

        loaders = (runner.train_dataloader, runner.val_dataloader)
        total = sum(fallbacks_of(loader.dataset) for loader in loaders)
        self._before, new = total, total - self._before
        return new


def loading_time(runner: Any) -> Optional[Tuple[float, float]]:
    """Return the seconds an epoch's training waited for samples, and lasted in all.

    From MMEngine's IterTimerHook, which every runner has unless its config takes it out.
    """
    scalars, count = runner.message_hub.log_scalars, len(runner.train_dataloader)
    found = [scalars.get(f"train/{name}") for name in ("data_time", "time")]
    if None in found:
        return None
    waited, lasted = (float(sum(one.data[0][-count:])) for one in found)
    return waited, lasted


class NamingCompose(Compose):
    """A chain whose errors name the clip; their kind, by which causes are distinguished, stays."""

    def __call__(self, data: Dict) -> Any:
        name = next((data[key] for key in CLIP_NAMES if data.get(key)), None)
        try:
            return super().__call__(data)
        except Exception as error:
            # An OSError names its file, and its text does not come from its arguments.
            if name is not None and not isinstance(error, OSError):
                error.args = (f"clip {name}: {' '.join(str(error).split())[:500]}",)
            raise


def name_samples(dataset: Any) -> None:
    """Let errors of a data set's chain name the clip, also of those that it wraps.

    Chains of another class are left as they are.
    """
    for inner in [getattr(dataset, "dataset", None), *(getattr(dataset, "datasets", None) or ())]:
        if inner is not None:
            name_samples(inner)
    chain = getattr(dataset, "pipeline", None)
    if type(chain) is Compose:
        # The data set keeps its own chain: others change its steps in place.
        chain.__class__ = NamingCompose
