"""What our job adds to MMEngine's training loop.

`LossWatch` looks at every loss and stops at a non-finite one, `Progress` tells where the
job is, `EpochEnd` closes each epoch: checkpoint, measurement, verdict. Everything else is
MMEngine's own loop.
"""

import bisect
import math
import time
from typing import Any, Dict, List, Optional

import torch
from mmengine.hooks import Hook

from pipeline.shared.files import append_line, read_json, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.train import checkpoints, keep_predictions, training_state
from pipeline.train.control import stop_request, wait_for_verdict
from pipeline.train.distributed import broadcast_flag, gather, rank
from pipeline.train.fit_loaders import FromVideo, waiting
from pipeline.train.metrics import mean_of, measure
from pipeline.train.outcome import JobFailure
from pipeline.train.rank_process import exit_if_replaced
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
        self._count = 0

    def before_train_epoch(self, runner: Any) -> None:
        self._sums, self._count = {}, 0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx == 0:
            self.lr = current_lr(runner)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        hub = runner.message_hub
        names = [*(outputs or {}), "grad_norm"]
        scalars = hub.log_scalars
        found = {name: scalars.get(f"train/{name}") for name in names}
        values = {name: float(v.current()) for name, v in found.items() if v is not None}
        loss = values.get("loss")
        if loss is not None and not math.isfinite(loss):
            terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise JobFailure(
                "nan",
                f"The training loss is not finite in epoch {runner.epoch + 1}, iteration "
                f"{batch_idx + 1}, at lr {current_lr(runner):.4g} ({terms}).",
            )
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def means(self) -> Dict[str, float]:
        """Return the mean of every loss term over this epoch, on this rank."""
        return {name: value / self._count for name, value in self._sums.items()}


class ProgressHook(Hook):
    """Writes `progress.json`, at most twice a second. Rank 0 only."""

    def __init__(self, rundir: RunDir, watch: LossGuardHook, interval_s: float = 0.5) -> None:
        self._path = rundir.progress
        self._watch = watch
        self._interval = interval_s
        self._next = 0.0
        self._began = time.time()

    def tell(self, runner: Any, phase: str, step: int, steps: int, at_once: bool = False) -> None:
        """Replace the file, if it is time to (or `at_once`)."""
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
        self.tell(runner, "train", 0, len(runner.train_dataloader), at_once=True)

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        self.tell(runner, "train", batch_idx + 1, len(runner.train_dataloader))

    def before_val_epoch(self, runner: Any) -> None:
        self.tell(runner, "val", 0, len(runner.val_dataloader), at_once=True)

    def after_val_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        self.tell(runner, "val", batch_idx + 1, len(runner.val_dataloader))


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


class EpochEndHook(Hook):
    """Closes an epoch: checkpoint, then measurement, then the control side's verdict.

    The order makes every measured epoch one that had a checkpoint of exactly that state.
    An epoch that the config does not validate gets its checkpoint and no measurement; a
    stop request is honoured after it, but no verdict is waited for.
    """

    priority = "LOWEST"

    def __init__(
        self,
        rundir: RunDir,
        spec: TrialSpec,
        watch: LossGuardHook,
        progress: Optional[ProgressHook],
        clips: keep_predictions.ClipPredictions,
    ) -> None:
        self._rundir = rundir
        self._clips = clips
        self._spec = spec
        self._watch = watch
        self._progress = progress
        self._from_video = FromVideo()
        self._began = time.monotonic()
        self._random: Optional[Dict[str, Any]] = None
        #: What made the job stop early; on rank 0 only.
        self.stop: Optional[Dict[str, Any]] = None

    def resume_random(self, random_state: Dict[str, Any]) -> None:
        """Keep the random state to go on with until all building is done."""
        self._random = random_state

    def before_train(self, runner: Any) -> None:
        if self._spec.checks_start:
            self._validate_start(runner)
        if self._random is not None:
            training_state.restore_random(self._random)

    def before_train_epoch(self, runner: Any) -> None:
        self._began = time.monotonic()

    def after_train_epoch(self, runner: Any) -> None:
        # Here MMEngine has not counted the epoch yet.
        if not will_validate(runner, runner.epoch + 1):
            runner.train_loop._epoch += 1
            try:
                self._close(runner, None)
            finally:
                runner.train_loop._epoch -= 1

    def after_val_epoch(self, runner: Any, metrics: Optional[Dict[str, float]] = None) -> None:
        self._close(runner, metrics or {})

    def _validate_start(self, runner: Any) -> None:
        """Measure epoch 0; leave no trace of it in the run that follows."""
        random_before, schedulers = training_state.random_state(), runner.param_schedulers
        runner.param_schedulers = None  # one that steps on metrics would count epoch 0
        self._began = time.monotonic()
        runner.val_loop.run()
        runner.param_schedulers = schedulers
        training_state.restore_random(random_before)

    def _close(self, runner: Any, metrics: Optional[Dict[str, float]]) -> None:
        epoch, seconds = runner.epoch, time.monotonic() - self._began
        losses = gather(self._watch.means() if epoch else {})
        measurement = None
        if metrics is not None:
            measurement = measure(self._spec, epoch, metrics, mean_of(losses))
            lr = self._watch.lr if epoch else None
            measurement.update(lr=lr, seconds=round(seconds, 3))
            self._keep_predictions(runner, measurement["top1"])
        self._tell_loading(runner, measurement)
        ranks = training_state.rank_state(runner) if epoch else []
        if rank() == 0:
            self._save(runner, measurement, ranks)
            self.stop = self._verdict(epoch, measurement is not None)
        if broadcast_flag(self.stop is not None):
            runner.train_loop.stop_training = True

    def _tell_loading(self, runner: Any, measurement: Optional[Dict[str, Any]]) -> None:
        """Say where the samples came from, and how long training waited for them."""
        if self._spec.reads_packs:
            count = sum(gather(self._from_video.since_last(runner)))
            if measurement is not None:
                measurement["extra"]["data/from_video"] = float(count)
        told = waiting(runner) if runner.epoch else None
        if told is not None and rank() == 0:
            facts = read_json(self._rundir.facts) or {}
            waited, lasted = told
            facts["waiting"] = {"seconds": round(waited, 2), "of": round(lasted, 2)}
            write_json(self._rundir.facts, facts)

    def _keep_predictions(self, runner: Any, top1: float) -> None:
        """Write them before the checkpoint, so that a kill in between leaves no epoch without."""
        found, reason = self._clips.result(runner, top1)
        if rank() != 0:
            return
        if found is None:
            keep_predictions.say_why_not(self._rundir, reason)
        else:
            keep_predictions.save(self._rundir, found)

    def _save(
        self, runner: Any, measurement: Optional[Dict[str, Any]], ranks: List[Dict[str, Any]]
    ) -> None:
        """Write the checkpoint, then the measurement, then delete what is not needed."""
        exit_if_replaced(self._rundir)
        if self._progress is not None:
            self._progress.tell(runner, "save", 0, 0, at_once=True)
        epoch = runner.epoch
        if epoch:
            refuse_broken_weights(training_state.bare_model(runner), epoch)
            content = training_state.take(runner, self._spec, ranks)
            content["measurement"] = checkpoints.plain(measurement)
            checkpoints.write(checkpoints.path_of(self._rundir, epoch), content)
        if measurement is not None:
            append_line(self._rundir.measurements, Measurement(**measurement).to_line())
            keep_predictions.prune(self._rundir)
        if epoch:
            checkpoints.prune(self._rundir)

    def _verdict(self, epoch: int, measured: bool) -> Optional[Dict[str, Any]]:
        if not measured:
            return stop_request(self._rundir)
        return wait_for_verdict(self._rundir, epoch, self._spec.judge_wait_s)


def current_lr(runner: Any) -> float:
    """Return the learning rate in force: the base one where parameters have their own."""
    rates = runner.optim_wrapper.get_lr()
    name = next((n for n in rates if n.endswith("base_lr")), next(iter(rates)))
    return float(rates[name][0])


def will_validate(runner: Any, epoch: int) -> bool:
    """Tell whether MMEngine's loop validates after `epoch` (its rule, 0.10.7)."""
    loop = runner.train_loop
    stage = bisect.bisect(loop.dynamic_milestones, epoch + 1)
    interval = loop.dynamic_intervals[stage - 1]
    return epoch >= loop.val_begin and (epoch % interval == 0 or epoch == loop.max_epochs)


def refuse_broken_weights(model: torch.nn.Module, epoch: int) -> None:
    """Raise JobFailure rather than save weights that a last, broken step made non-finite."""
    for name, weights in model.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            raise JobFailure(
                "nan", f"The weights are not finite after epoch {epoch} (first: {name})."
            )
