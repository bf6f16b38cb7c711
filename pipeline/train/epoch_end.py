"""The end of an epoch: checkpoint, then measurement, then the control side's verdict.

Between the two first, at a check of a search, the averaged weights are read.

The job's half of the stop handshake is here too: it asks the run directory, never the judge.
"""

import bisect
import dataclasses
import time
from typing import Any, Dict, List, Optional

import torch
from mmengine.hooks import Hook

from pipeline.shared.files import append_line, read_json, timestamp, write_json
from pipeline.shared.measurement import AVERAGED, AVERAGED_SECONDS, Measurement
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Cause
from pipeline.train import checkpoints, keep_predictions, training_state
from pipeline.train.averaged_weights import AveragedWeightsHook
from pipeline.train.distributed import broadcast_flag, gather, rank
from pipeline.train.fit_loaders import PackMisses, loading_time
from pipeline.train.hooks import LossGuardHook, ProgressHook
from pipeline.train.outcome import JobFailure
from pipeline.train.rank_process import exit_if_replaced

#: Pause between two looks. The files are local and tiny; a look costs microseconds.
POLL_S = 0.02


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
        losses: LossGuardHook,
        progress: Optional[ProgressHook],
        clips: keep_predictions.ClipPredictionsHook,
        averages: AveragedWeightsHook,
    ) -> None:
        self._rundir = rundir
        self._spec = spec
        self._losses = losses
        self._progress = progress
        self._clips = clips
        self._averages = averages
        self._pack_misses = PackMisses()
        self._began = time.monotonic()
        self._trained: Optional[float] = None  # when the epoch's training ended
        self._random: Optional[Dict[str, Any]] = None
        self._unread: Optional[Measurement] = None
        #: The control side's request that made the job stop early; on rank 0 only.
        self.stop: Optional[Dict[str, Any]] = None

    def resume_random(self, random_state: Dict[str, Any]) -> None:
        """Restore this random state when all building is done and the training begins."""
        self._random = random_state

    def resume_reading(self, measurement: Measurement) -> None:
        """Read the averaged weights of this epoch first: the job was killed before it had."""
        self._unread = measurement

    def before_train(self, runner: Any) -> None:
        if self._spec.checks_start:
            self._validate_start(runner)
        if broadcast_flag(self._unread is not None):
            measurement = self._read_averages(runner, self._unread)
            if measurement is not None:
                append_line(self._rundir.measurements, measurement.to_line())
        self._averages.forget_until(runner.epoch)
        if self._random is not None:
            training_state.restore_random(self._random)

    def before_train_epoch(self, _runner: Any) -> None:
        self._began, self._trained = time.monotonic(), None

    def after_train_epoch(self, runner: Any) -> None:
        self._trained = time.monotonic()
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
        measurement = self._measure(runner, metrics)
        self._record_loading_time(runner)
        ranks = training_state.rank_state(runner) if runner.epoch else []
        if rank() == 0:
            began = time.monotonic()
            self._write_checkpoint(runner, measurement, ranks)
            measurement = with_time(measurement, "checkpoint", time.monotonic() - began)
        if metrics is not None:
            measurement = self._read_averages(runner, measurement)
        self._averages.forget_until(runner.epoch)
        if rank() == 0:
            new = self._record(runner.epoch, measurement)
            self.stop = self._verdict(runner.epoch, new)
        if broadcast_flag(self.stop is not None):
            runner.train_loop.stop_training = True

    def _measure(self, runner: Any, metrics: Optional[Dict[str, float]]) -> Optional[Measurement]:
        """Return the epoch's measurement, None without a validation. Call it on all ranks."""
        epoch, times = runner.epoch, self._times(runner, time.monotonic())
        losses = mean_of(gather(self._losses.means() if epoch else {}))
        if metrics is None:
            if self._spec.reads_packs:
                self._pack_misses.since_last(runner)
            return None
        measurement = measure(self._spec, epoch, metrics, losses)
        self._keep_predictions(runner, measurement.top1)
        extra = dict(measurement.extra)
        if self._spec.reads_packs:
            extra["data/from_video"] = float(sum(gather(self._pack_misses.since_last(runner))))
        return dataclasses.replace(
            measurement,
            lr=self._losses.lr if epoch else None,
            seconds=round(times.pop("all"), 3),
            times={name: round(seconds, 3) for name, seconds in times.items()},
            extra=extra,
        )

    def _read_averages(
        self, runner: Any, measurement: Optional[Measurement]
    ) -> Optional[Measurement]:
        """Return the measurement with the value of the averaged weights; call it on all ranks."""
        if not self._averages.is_due(runner.epoch):
            return measurement
        began = time.monotonic()
        value = self._averages.read(runner)
        self._pack_misses.since_last(runner)  # those of the reading are not the epoch's
        if measurement is None:
            return None
        seconds = round(time.monotonic() - began, 3)
        extra = {**measurement.extra, AVERAGED: value, AVERAGED_SECONDS: seconds}
        return dataclasses.replace(measurement, extra=extra)

    def _times(self, runner: Any, now: float) -> Dict[str, float]:
        """Return the seconds of the parts of an epoch, and of `all` of it."""
        times = {"all": now - self._began, "val": now - (self._trained or self._began)}
        if self._trained is None:
            return times
        times["train"] = self._trained - self._began
        waited = loading_time(runner)
        return times if waited is None else {**times, "data": waited[0]}

    def _record_loading_time(self, runner: Any) -> None:
        """Write into `facts.json` how long the epoch's training waited for samples."""
        times = loading_time(runner) if runner.epoch else None
        if times is not None and rank() == 0:
            waited, lasted = times
            facts = read_json(self._rundir.facts) or {}
            facts["waiting"] = {"seconds": round(waited, 2), "of": round(lasted, 2)}
            write_json(self._rundir.facts, facts)

    def _keep_predictions(self, runner: Any, top1: float) -> None:
        """Write them before the checkpoint, so that a kill in between leaves no epoch without."""
        kept, reason = self._clips.result(runner, top1)
        if rank() != 0:
            return
        if kept is None:
            keep_predictions.record_absence(self._rundir, reason)
        else:
            keep_predictions.save(self._rundir, kept)

    def _write_checkpoint(
        self, runner: Any, measurement: Optional[Measurement], ranks: List[Dict[str, Any]]
    ) -> None:
        """Write the checkpoint of an epoch. Rank 0 only."""
        exit_if_replaced(self._rundir)
        if self._progress is not None:
            self._progress.write(runner, "save", 0, 0, at_once=True)
        epoch = runner.epoch
        if epoch:
            refuse_broken_weights(training_state.bare_model(runner), epoch)
            content = training_state.take(runner, self._spec, ranks, measurement)
            checkpoints.write(checkpoints.path_of(self._rundir, epoch), content)

    def _record(self, epoch: int, measurement: Optional[Measurement]) -> bool:
        """Write the measurement, then delete what is not needed. Rank 0 only.

        Returns:
            Whether there is a measurement to be judged: an epoch that is trained again, because
            its checkpoint was damaged, keeps its first measurement and verdict.
        """
        exit_if_replaced(self._rundir)
        history = self._rundir.read_measurements()
        new = measurement is not None and epoch not in {m.epoch for m in history}
        if measurement is not None and new:
            append_line(self._rundir.measurements, measurement.to_line())
            history = self._rundir.read_measurements()
        if measurement is not None:
            keep_predictions.prune(self._rundir, history)
        if epoch:
            checkpoints.prune(self._rundir, history)
        return new

    def _verdict(self, epoch: int, measured: bool) -> Optional[Dict[str, Any]]:
        if not measured:
            return stop_request(self._rundir)
        return wait_for_verdict(self._rundir, epoch, self._spec.judge_wait_s)


def with_time(
    measurement: Optional[Measurement], name: str, seconds: float
) -> Optional[Measurement]:
    """Return the measurement with the time of one more part of its epoch."""
    if measurement is None:
        return None
    times = {**measurement.times, name: round(seconds, 3)}
    return dataclasses.replace(measurement, times=times)


def stop_request(rundir: RunDir) -> Optional[Dict[str, Any]]:
    """Return the control side's request to stop, or None."""
    return read_json(rundir.stop)


def wait_for_verdict(rundir: RunDir, epoch: int, limit_s: float) -> Optional[Dict[str, Any]]:
    """Wait until `epoch` is judged, and return the request to stop if there is one.

    Without an answer within `limit_s` seconds the training goes on: a control side that is
    slow or gone costs an epoch at most, never the run.
    """
    deadline = time.monotonic() + limit_s
    while True:
        judged = (read_json(rundir.judged) or {}).get("epoch", -1)
        request = stop_request(rundir)  # written before judged.json, so read after it
        if request is not None or judged >= epoch or time.monotonic() >= deadline:
            return request
        time.sleep(POLL_S)


def mean_of(losses: List[Dict[str, float]]) -> Dict[str, float]:
    """Return the mean over ranks of each term that every rank has."""
    shared = [name for name in losses[0] if all(name in other for other in losses)]
    return {name: sum(one[name] for one in losses) / len(losses) for name in shared}


def measure(
    spec: TrialSpec, epoch: int, metrics: Dict[str, float], losses: Dict[str, float]
) -> Measurement:
    """Return an epoch's measurement, still without lr and seconds.

    Raises:
        JobFailure: the validation lacks a metric that the specification names.
    """
    scalars = {name: float(value) for name, value in metrics.items() if is_number(value)}
    metric = str(spec.metric)  # a job without one was refused
    objective = [metric, *spec.branches.values()]
    absent = [name for name in objective if name not in scalars]
    if absent:
        raise JobFailure(
            Cause.NO_METRIC,
            f'The validation has no metric "{absent[0]}". It has: {", ".join(sorted(scalars))}. '
            "Set objective.metric and objective.branches in the sweep file.",
        )
    branches = {f"{branch}_top1": scalars[name] for branch, name in spec.branches.items()}
    extra = {name: value for name, value in scalars.items() if name not in objective}
    for name, value in losses.items():
        if name != "loss":
            extra[name if "loss" in name else f"train/{name}"] = value
    return Measurement(
        epoch=epoch,
        top1=scalars[metric],
        rgb_top1=branches.pop("rgb_top1", None),
        pose_top1=branches.pop("pose_top1", None),
        loss=losses.get("loss"),
        extra={**extra, **branches},
        attempt=spec.attempt,
        time=timestamp(),
    )


def is_number(value: Any) -> bool:
    """Whether a metric is a single number of any of the types metrics come in."""
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not isinstance(value, str)


def will_validate(runner: Any, epoch: int) -> bool:
    """Whether MMEngine's loop validates after `epoch` (its rule, 0.10.7)."""
    loop = runner.train_loop
    stage = bisect.bisect(loop.dynamic_milestones, epoch + 1)
    interval = loop.dynamic_intervals[stage - 1]
    return epoch >= loop.val_begin and (epoch % interval == 0 or epoch == loop.max_epochs)


def refuse_broken_weights(model: torch.nn.Module, epoch: int) -> None:
    """Raise JobFailure if a last, broken step left weights that are not finite."""
    for name, weights in model.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            raise JobFailure(
                Cause.NAN, f"The weights are not finite after epoch {epoch} (first: {name})."
            )
