"""`python -m pipeline.train.tools.schedule`: the learning rate a config really gives.

stdin: `{"config": path or text, "iters_per_epoch": n or null, "nproc": n}`. stdout: `{"lr":
[in force at the first iteration of each epoch], "lr_end": [at its last], "near": whether that
depends on the unknown number of iterations, "metric_driven": [types], "monitors": [the metric
of each]}`. MMEngine's own schedulers are built on a dummy parameter and stepped as the Runner
does, so any stack of them is right. Those in `metric_driven` wait for a metric and are left out.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

from pipeline.train.config_file import load
from pipeline.train.tools.tool import ToolError, serve

#: Stand for the iterations of an epoch where they are not known: two short epochs, whose rates at
#: the start of each epoch agree unless they depend on the length, and one that is long enough to
#: be within 0.4 % of any longer one.
_SHORT, _LONG = (10, 20), 100
#: Relative; by how much rates of epochs of different lengths may differ and count as the same.
_SAME = 1e-3


class StepError(ToolError):
    """A schedule that fails in the middle of a training."""


def schedule(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    config = _read(question.get("config"))
    epochs = (config.get("train_cfg") or {}).get("max_epochs")
    if not isinstance(epochs, int):
        raise ToolError("train_cfg.max_epochs is missing: the schedule has no length.")
    entries = _entries(config)
    iters = question.get("iters_per_epoch")
    if iters is None and any(not entry.get("by_epoch", True) for entry in entries):
        raise ToolError(
            "A scheduler counts iterations (by_epoch=False), and how many an epoch has is known "
            "when a job has begun. Write it by epochs, with convert_to_iter_based=True."
        )
    try:
        return _of_any_length(config, entries, epochs, iters, int(question.get("nproc") or 1))
    except ToolError:
        raise
    except Exception as error:  # a scheduler may be the user's own
        raise ToolError(f"param_scheduler cannot be built: {error}") from error


def _of_any_length(
    config: Dict[str, Any],
    entries: List[Dict[str, Any]],
    epochs: int,
    iters: Optional[int],
    nproc: int,
) -> Dict[str, Any]:
    """Return the course for epochs of `iters` iterations, or of a number that is not known."""
    if iters is not None or not any(entry.get("convert_to_iter_based") for entry in entries):
        return {**course(config, entries, epochs, int(iters or 1), nproc), "near": False}
    one, two = (course(config, entries, epochs, length, nproc) for length in _SHORT)
    pairs = zip(one["lr"], two["lr"])
    if all(abs(a - b) <= _SAME * max(abs(a), abs(b)) + 1e-12 for a, b in pairs):
        return {**two, "near": False}
    return {**course(config, entries, epochs, _LONG, nproc), "near": True}


def course(
    config: Dict[str, Any], entries: List[Dict[str, Any]], epochs: int, iters: int, nproc: int
) -> Dict[str, Any]:
    """Step through all epochs and return the learning rate in each."""
    import mmengine.optim  # noqa: F401  registers the schedulers
    from mmengine.registry import PARAM_SCHEDULERS

    optimizer = dummy_optimizer(config, nproc)
    schedulers = []
    for entry in entries:
        # The Runner's own defaults (mmengine 0.10.7, Runner._build_param_scheduler).
        end = epochs if entry.get("by_epoch", True) else epochs * iters
        filled = {"end": end, **entry}
        defaults = {"optimizer": optimizer, "epoch_length": iters}
        schedulers.append(PARAM_SCHEDULERS.build(filled, default_args=defaults))
    timed = [s for s in schedulers if not getattr(s, "need_val_args", False)]
    try:
        first, last = _rates(optimizer, timed, epochs, iters)
    except Exception as error:
        raise StepError(_why_no_step(entries, error)) from error
    waiting = [s for s in schedulers if s not in timed]
    return {
        "lr": first,
        "lr_end": last,
        "metric_driven": [type(s).__name__ for s in waiting],
        "monitors": [str(getattr(s, "monitor", "")) for s in waiting],
    }


def _why_no_step(entries: List[Dict[str, Any]], error: Exception) -> str:
    kinds = ", ".join(str(entry.get("type")) for entry in entries)
    text = f"param_scheduler: {kinds} cannot be stepped: {type(error).__name__}: {error}."
    if any(entry.get("start_factor") == 0 for entry in entries):
        return f"{text} Write a start_factor above 0, such as 1e-3."
    return text


def _rates(optimizer: Any, timed: List[Any], epochs: int, iters: int) -> Any:
    """Return the rate at the first and at the last iteration of each epoch."""
    first, last = [], []
    for _ in range(epochs):
        first.append(optimizer.param_groups[0]["lr"])
        for _ in range(iters):
            now = optimizer.param_groups[0]["lr"]
            optimizer.step()
            _step([s for s in timed if not s.by_epoch])
        last.append(now)
        _step([s for s in timed if s.by_epoch])
    return first, last


def dummy_optimizer(config: Dict[str, Any], nproc: int) -> Any:
    """Return an optimizer over one parameter, with the config's learning rate."""
    import torch

    optimizer = (config.get("optim_wrapper") or {}).get("optimizer") or {}
    if optimizer.get("lr") is None:
        raise ToolError("optim_wrapper.optimizer.lr is missing: there is nothing to schedule.")
    if not isinstance(optimizer["lr"], (int, float)):
        written = repr(optimizer["lr"])[:60]
        raise ToolError(
            f"optim_wrapper.optimizer.lr is {written}; write one number, such as 1e-4."
        )
    lr = float(optimizer["lr"])
    scaling = config.get("auto_scale_lr") or {}
    if scaling.get("enable"):
        batch = nproc * config["train_dataloader"]["batch_size"]
        lr *= batch / float(scaling["base_batch_size"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    if "betas" in optimizer:
        return torch.optim.AdamW([parameter], lr=lr, betas=tuple(optimizer["betas"]))
    return torch.optim.SGD([parameter], lr=lr, momentum=optimizer.get("momentum", 0.0))


def _entries(config: Dict[str, Any]) -> List[Dict[str, Any]]:
    entries = config.get("param_scheduler") or []
    if isinstance(entries, dict):
        if "type" not in entries:
            raise ToolError("param_scheduler is for several optimizers; the plan knows one lr.")
        entries = [entries]
    return [dict(entry) for entry in entries]


def _step(schedulers: List[Any]) -> None:
    for scheduler in schedulers:
        scheduler.step()


def _read(config: Any) -> Dict[str, Any]:
    """Return the config of a path, or of a text (which has more than one line)."""
    if not isinstance(config, str):
        raise ToolError('The question has no "config".')
    if "\n" not in config:
        return load(config)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.py"
        path.write_text(config, encoding="utf-8")
        return load(str(path))[0]


if __name__ == "__main__":
    sys.exit(serve(schedule))
