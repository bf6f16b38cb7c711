"""Hooks that watch a training: its losses, its progress, its data loaders, its buffers.

What closes an epoch is in `epoch_end.py`.
"""

import math
import time
from typing import Any, Dict, Optional

import torch
from mmengine.hooks import Hook
from torch import distributed

from pipeline.shared.files import write_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause
from pipeline.train.outcome import JobFailure
from pipeline.train.seeding import LoaderSeeds


class LossGuardHook(Hook):
    """Adds up the losses of an epoch, and ends the job at the first that is not finite.

    Reads the numbers that MMEngine's RuntimeInfoHook (VERY_HIGH) has just brought to the
    host: no further wait for the device.
    """

    priority = "HIGH"

    def __init__(self) -> None:
        self.lr: Optional[float] = None
        self._sums: Dict[str, float] = {}
        self._counts: Dict[str, int] = {}

    def before_train_epoch(self, _runner: Any) -> None:
        self._sums, self._counts = {}, {}

    def before_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        if batch_idx == 0:
            self.lr = current_lr(runner)

    def after_train_iter(self, runner: Any, batch_idx: int, outputs: Any = None, **_: Any) -> None:
        hub = runner.message_hub
        names = [*(outputs or {}), "grad_norm"]
        scalars = hub.log_scalars
        found = {name: scalars.get(f"train/{name}") for name in names}
        values = {name: float(v.current()) for name, v in found.items() if v is not None}
        loss = values.get("loss")
        if loss is not None and not math.isfinite(loss):
            terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise JobFailure(
                Cause.NAN,
                f"The training loss is not finite in epoch {runner.epoch + 1}, iteration "
                f"{batch_idx + 1}, at lr {current_lr(runner):.4g} ({terms}).",
            )
        for name, value in values.items():
            # Where a step overflows, float16's loss scaler leaves it out: no norm of a step.
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> Dict[str, float]:
        """Return the mean of every loss term over this epoch, on this rank."""
        return {name: value / self._counts[name] for name, value in self._sums.items()}


class ProgressHook(Hook):
    """Writes `progress.json`, at most twice a second. Rank 0 only."""

    def __init__(self, rundir: RunDir, watch: LossGuardHook, interval_s: float = 0.5) -> None:
        self._path = rundir.progress
        self._watch = watch
        self._interval = interval_s
        self._next = 0.0
        self._began = time.time()

    def write(self, runner: Any, phase: str, step: int, steps: int, at_once: bool = False) -> None:
        """Replace the file, at most once an interval unless `at_once`."""
        now = time.monotonic()
        if not at_once and now < self._next:
            return
        self._next = now + self._interval
        loss = runner.message_hub.log_scalars.get("train/loss")
        record = {
            "epoch": runner.epoch + 1 if phase == "train" else runner.epoch,
            "phase": phase,
            "iter": step,
            "iters": steps,
            "lr": self._watch.lr,
            "loss": float(loss.current()) if loss is not None else None,
            "time": time.time(),
            "epoch_started": self._began,
        }
        write_json(self._path, record, durable=False)

    def before_train_epoch(self, runner: Any) -> None:
        self._began = time.time()
        self.write(runner, "train", 0, len(runner.train_dataloader), at_once=True)

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        self.write(runner, "train", batch_idx + 1, len(runner.train_dataloader))

    def before_val_epoch(self, runner: Any) -> None:
        self.write(runner, "val", 0, len(runner.val_dataloader), at_once=True)

    def after_val_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        self.write(runner, "val", batch_idx + 1, len(runner.val_dataloader))


class LoaderSeedHook(Hook):
    """Seeds the data loaders for each epoch."""

    priority = "VERY_HIGH"

    def __init__(self, train: LoaderSeeds, val: LoaderSeeds) -> None:
        self._train = train
        self._val = val

    def before_train_epoch(self, runner: Any) -> None:
        self._train.begin(runner.epoch)

    def before_val_epoch(self, runner: Any) -> None:
        self._val.begin(runner.epoch)


class SyncBuffersHook(Hook):
    """Averages floating buffers over the ranks before a checkpoint and before a validation.

    Each rank's batch norm follows its own share of the data. Measured like that, a validation
    mixes as many models as there are ranks, and the one that is saved (rank 0's) reaches another
    figure than the one on record: on 32 clips of UTD-MHAD 0.8125 instead of 0.875. The mean over
    the ranks is one model, and a better estimate than any rank's own.

    Runs after hooks of normal priority: MMEngine's EMAHook puts its own model in for a validation.
    """

    priority = "LOW"

    def after_train_epoch(self, runner: Any) -> None:
        average_buffers(getattr(runner.model, "module", runner.model))

    def before_val_epoch(self, runner: Any) -> None:
        average_buffers(getattr(runner.model, "module", runner.model))


def average_buffers(model: torch.nn.Module) -> None:
    """Replace each floating buffer by its mean over all ranks; call it on every rank."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return
    buffers = [b for b in model.buffers() if b.is_floating_point() and b.numel() > 0]
    if not buffers:
        return
    flat = torch.cat([b.detach().reshape(-1).double() for b in buffers])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    start = 0
    for buffer in buffers:
        values = flat[start : start + buffer.numel()]
        buffer.data.copy_(values.reshape(buffer.shape))
        start += buffer.numel()


def current_lr(runner: Any) -> float:
    """Return the learning rate in force: the base one where parameters have their own."""
    rates = runner.optim_wrapper.get_lr()
    name = next((n for n in rates if n.endswith("base_lr")), next(iter(rates)))
    return float(rates[name][0])
