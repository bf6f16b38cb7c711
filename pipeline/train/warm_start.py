"""Start a training from the weights of an existing checkpoint file."""

import logging
from typing import Any, Dict

import torch

from pipeline.train.checkpoint_file import CheckpointError, read_checkpoint, state_dict_of

_LOG = logging.getLogger(__name__)


class WarmStartError(Exception):
    """A sentence for the user: why the starting weights cannot be used."""


def load_warm_start(runner: Any, spec: Dict[str, Any]) -> Dict[str, Any]:
    """Load `spec["warm_start"]["checkpoint"]` into the runner's model, on every rank alike.

    Afterwards the runner no longer initialises weights by itself: mmengine's `train()` would
    otherwise overwrite what was loaded.

    Returns:
        A report: kind of file, share matched, names missing, unexpected and of wrong shape.

    Raises:
        WarmStartError: the file is unusable, or too little of it fits the model.
    """
    start = spec["warm_start"]
    path, least = start["checkpoint"], start.get("min_matched", 0.95)
    try:
        tensors = state_dict_of(read_checkpoint(path), path)
    except CheckpointError as error:
        raise WarmStartError(str(error)) from error
    runner._init_model_weights()
    model = getattr(runner.model, "module", runner.model)
    report = match(tensors, model.state_dict())
    report["checkpoint"] = str(path)
    if report["matched_share"] < least:
        raise WarmStartError(
            f"Only {report['matched_share']:.1%} of the model's weights are in {path} "
            f"(warm_start.min_matched is {least:.0%}). See why: pcan checkpoint inspect {path}"
        )
    fitting = {name: tensors[name] for name in report["matched"]}
    model.load_state_dict(fitting, strict=False)
    runner._init_model_weights = _already_initialised
    _LOG.info("warm start from %s: %.1f %% matched", path, 100 * report["matched_share"])
    return report


def _already_initialised() -> None:
    """Stand in for the runner's own initialisation after a warm start."""


def match(tensors: Dict[str, torch.Tensor], model: Dict[str, torch.Tensor]) -> Dict[str, Any]:
    """Compare a file's tensors with a model's by name and shape; the share is of numbers."""
    matched, mismatched = [], []  # type: List[str], List[Tuple[str, List[int], List[int]]]
    for name, value in model.items():
        if name in tensors and tensors[name].shape == value.shape:
            matched.append(name)
        elif name in tensors:
            mismatched.append((name, list(tensors[name].shape), list(value.shape)))
    total = sum(value.numel() for value in model.values())
    share = sum(model[name].numel() for name in matched) / max(total, 1)
    return {
        "matched": matched,
        "matched_share": share,
        "missing": [name for name in model if name not in tensors],
        "unexpected": [name for name in tensors if name not in model],
        "mismatched": mismatched,
    }
