"""One training: from a run directory to an outcome. What each rank of a job does."""

import logging
import os
from typing import Any, Dict, Optional

from mmengine.hooks import CheckpointHook, EarlyStoppingHook

from pipeline.shared.files import append_line, read_json, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Cause
from pipeline.train import checkpoints, distributed, keep_predictions, training_state
from pipeline.train.averaged_weights import AveragedWeightsHook
from pipeline.train.epoch_end import EpochEndHook
from pipeline.train.fit_loaders import name_samples
from pipeline.train.hooks import LoaderSeedHook, LossGuardHook, ProgressHook, SyncBuffersHook
from pipeline.train.outcome import JobFailure, Stage, write_outcome
from pipeline.train.rank_process import collect_garbage_again, pass_over_what_stands
from pipeline.train.runner_config import job_config
from pipeline.train.seeding import LoaderSeeds, allow_deterministic_products
from pipeline.train.speed import SpeedRunner

log = logging.getLogger(__name__)


class JobRunner(SpeedRunner):
    """MMEngine's Runner, but for where its starting state comes from."""

    rundir: RunDir
    spec: TrialSpec
    stage: Stage
    epoch_end: EpochEndHook
    averages: AveragedWeightsHook

    def load_or_resume(self) -> None:
        """Load what the specification names: a checkpoint of this trial, or warm weights.

        MMEngine calls this when everything is built and before it counts iterations.
        """
        if self.spec.resume is not None:
            self._go_on(self.spec.resume)
        elif self.spec.warm_start is not None:
            self._start_warm()
        self._has_loaded = True
        self.stage.name = "train"

    def _go_on(self, name: str) -> None:
        self._resume = True  # hooks with state of their own (EMAHook) ask for it
        content = checkpoints.read(self.rundir.root / name)
        training_state.restore(self, self.spec, content)
        self.epoch_end.resume_random(content["ranks"][distributed.rank()]["random"])
        if distributed.rank() == 0:
            lacking = replay_measurement(self.rundir, content)
            if lacking is not None and self.averages.is_due(lacking.epoch):
                self.epoch_end.resume_reading(lacking)
            elif lacking is not None:
                append_line(self.rundir.measurements, lacking.to_line())
        self.logger.info("Going on after epoch %d, from %s.", self.epoch, name)

    def _start_warm(self) -> None:
        from pipeline.train.warm_start import WarmStartError, load_warm_start

        try:
            report = load_warm_start(self, self.spec.warm_start or {})
        except WarmStartError as error:
            raise JobFailure(Cause.WARM_START, str(error)) from error
        for note in report["notes"]:
            self.logger.info("Warm start: %s", note)
        if distributed.rank() == 0:
            known = read_json(self.rundir.facts) or {}
            kept = {k: v for k, v in report.items() if k not in ("matched", "checkpoint")}
            write_json(self.rundir.facts, {**known, "warm_start": kept})


def replay_measurement(rundir: RunDir, content: Any) -> Optional[Measurement]:
    """Take the run directory back to the epoch of a checkpoint.

    Returns:
        The checkpoint's measurement, if a job that was killed left its line out.
    """
    epoch, measurement = content["meta"]["epoch"], content["measurement"]
    checkpoints.forget_after(rundir, epoch)
    keep_predictions.forget_after(rundir, epoch)
    measured = {m.epoch for m in rundir.read_measurements()}
    lacks = measurement is not None and epoch not in measured
    return Measurement(**measurement) if lacks else None


def run_job(rundir: RunDir, spec: TrialSpec, stage: Stage) -> None:
    """Train as the run directory says; on return the outcome is written."""
    check_device(str(spec.device))
    config = job_config(rundir, spec, "WORLD_SIZE" in os.environ)
    allow_deterministic_products(config)
    stage.name = "join"
    timeout = ((config.get("env_cfg") or {}).get("dist_cfg") or {}).get("timeout")
    distributed.join(str(spec.device), timeout)
    if distributed.rank() == 0:
        checkpoints.forget_unfinished(rundir)
    stage.name = "build"
    runner = build(config, rundir, spec, stage)
    if distributed.rank() == 0:
        write_json(rundir.facts, {**(read_json(rundir.facts) or {}), **facts(runner)})
    collect_garbage_again()
    runner.train()
    if distributed.rank() == 0:
        write_outcome(runner, runner.epoch_end.stop, rundir, spec)
    distributed.leave()


def facts(runner: JobRunner) -> Dict[str, Any]:
    """Return what only the job knows of a trial and the control side judges or shows."""
    return {
        "train_clips": len(runner.train_dataloader.dataset),
        "val_clips": len(runner.val_dataloader.dataset),
        "iters_per_epoch": len(runner.train_dataloader),
        "parameters": sum(p.numel() for p in runner.model.parameters()),
    }


def check_device(device: str) -> None:
    """Raise JobFailure if the device the trial was given is not there."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise JobFailure(Cause.NO_GPU, "The trial was given GPUs, but the job sees none.")


def build(config: Any, rundir: RunDir, spec: TrialSpec, stage: Stage) -> JobRunner:
    """Build the runner with its loops and our hooks, ready to train."""
    pass_over_what_stands()
    runner = JobRunner.from_cfg(config)
    runner.rundir, runner.spec, runner.stage = rundir, spec, stage
    leave_out_subclasses(runner)
    # Building the loops here separates an unusable config or data set from a failing training.
    loops = {"train": runner.train_loop, "val": runner.val_loop}
    for loop in loops.values():
        name_samples(loop.dataloader.dataset)
    seed, rank = int(runner.seed), distributed.rank()
    watch = LossGuardHook()
    progress = ProgressHook(rundir, watch) if rank == 0 else None
    clips = keep_predictions.ClipPredictionsHook(str(spec.metric))
    seeds = [LoaderSeeds(loop.dataloader, seed, rank, name) for name, loop in loops.items()]
    quiet = [hook for hook in (LoaderSeedHook(*seeds), SyncBuffersHook(), progress) if hook]
    runner.averages = AveragedWeightsHook(spec, quiet)
    runner.epoch_end = EpochEndHook(rundir, spec, watch, progress, clips, runner.averages)
    for hook in (*quiet, watch, clips, runner.averages, runner.epoch_end):
        runner.register_hook(hook)
    return runner


def leave_out_subclasses(runner: JobRunner) -> None:
    """Remove hooks that stop or save under a name of their own; every rank does the same."""
    for hook in list(runner.hooks):
        if isinstance(hook, (EarlyStoppingHook, CheckpointHook)):
            runner._hooks.remove(hook)
            name = type(hook).__name__
            runner.logger.info("Left out: %s; the job does its work itself.", name)
