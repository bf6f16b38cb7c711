"""What of a trial can be joined with others, and in which ways its clips can be shown."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict

from mmengine.config import Config

from pipeline.shared.rundir import RunDir
from pipeline.train import checkpoints
from pipeline.train.mean_weights import later_epochs, read
from pipeline.train.test_views import refusal

#: Options of a model that training alone uses: trials that differ in nothing else can be averaged.
ONLY_FOR_TRAINING = frozenset(
    (
        *("loss_weights", "loss_weight", "loss_cls", "label_smooth_eps", "dropout"),
        *("dropout_ratio", "cross_dropout", "prototype_weight", "prototype_momentum"),
        *("hierarchy_weight", "diversity_gradient", "prototype_seed", "init_std", "init_cfg"),
        "pretrained",
    )
)


def facts(folder: Path, best_epoch: int, views: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """Return what the control side chooses readings by.

    Args:
        folder: a run directory.
        views: ways to show clips by name, as `test_views.with_views` takes them.

    Returns:
        `epochs` with a checkpoint; `later`, the epochs of a kept mean or []; digests of the
        `model` without what only training uses, of `shapes` of the weights, of the `training` and
        the `validation` data; `test_differs`, whether the test split has clips of its own;
        `refused`, by view why it cannot be shown.
    """
    run = RunDir(folder)
    config = Config.fromfile(str(run.config), import_custom_modules=False)
    epochs = checkpoints.epochs_of(run)
    best = checkpoints.path_of(run, best_epoch)
    weights = read(best)["state_dict"] if best.is_file() else {}
    newest = read(checkpoints.path_of(run, epochs[-1])) if epochs else {"meta": {}}
    refused = {name: refusal(config, "val", **how) for name, how in views.items()}
    return {
        "epochs": epochs,
        "later": later_epochs(newest),
        "model": digest(for_inference(_plain(config.get("model")))),
        "shapes": digest({name: list(tensor.shape) for name, tensor in weights.items()}),
        "training": digest(_data(config, "train")),
        "validation": digest(_data(config, "val")),
        "test_differs": _clips(config, "test") not in (None, _clips(config, "val")),
        "refused": {name: why for name, why in refused.items() if why},
    }


def for_inference(value: Any) -> Any:
    """Return a model's config without the options that only training uses."""
    if isinstance(value, dict):
        return {k: for_inference(v) for k, v in value.items() if k not in ONLY_FOR_TRAINING}
    return [for_inference(one) for one in value] if isinstance(value, (list, tuple)) else value


def digest(value: Any) -> str:
    """Return a digest of plain values, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _data(config: Config, kind: str) -> Any:
    loader = _plain(config.get(f"{kind}_dataloader")) or {}
    return loader.get("dataset")


def _clips(config: Config, kind: str) -> Any:
    """Return what says which clips a loader reads: its data set without the pipeline."""
    dataset = _data(config, kind)
    return dataset and {key: dataset[key] for key in dataset if key != "pipeline"}


def _plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value
