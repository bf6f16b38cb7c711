"""Turns a trial's `config.py` into what MMEngine's Runner is built from.

The config says what is trained. Where it lies, who saves, stops and reports is the job's
matter: those parts are replaced here.
"""

import logging
import traceback
from typing import Any, List

from mmengine.config import Config

from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Cause
from pipeline.train.compat import prepare_mmaction, read_plain_pickles
from pipeline.train.config_text import to_text
from pipeline.train.fit_loaders import fit_loaders
from pipeline.train.left_out import kind_of, split_hooks
from pipeline.train.outcome import JobFailure
from pipeline.train.speed import set_speed
from pipeline.train.tools.tool import ToolError

log = logging.getLogger(__name__)
NEEDED = (
    "model",
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "val_dataloader",
    "val_cfg",
    "val_evaluator",
)


class JobConfig(Config):
    """A job's config, whose text is written in milliseconds.

    MMEngine formats it with yapf, 0.2 to 0.4 s of CPU time for PCAN: once for each rank's log, for
    two files, for the trackers, and again for every checkpoint.
    """

    @property
    def pretty_text(self) -> str:
        try:
            return to_text(self.to_dict(), str(self.filename))
        except ToolError:  # a part of the user's has put in what only MMEngine writes
            return super().pretty_text


def job_config(rundir: RunDir, spec: TrialSpec, distributed: bool) -> Config:
    """Load `config.py` and fit it to this job; raise JobFailure if it cannot be loaded."""
    prepare_mmaction()
    read_plain_pickles()
    try:
        read = Config.fromfile(str(rundir.config))
        config = JobConfig(read.to_dict(), cfg_text=read.text, filename=read.filename)
    except Exception as error:
        traceback.print_exc()
        raise JobFailure(Cause.BAD_CONFIG, f"{rundir.config} cannot be loaded: {error}") from error
    check(config)
    read_from_store(config, spec)
    set_speed(config, spec)
    for line in fit_loaders(config, spec):
        log.info(line)
    leave_to_job(config, str(rundir.root / "mmengine"))
    config.launcher = "pytorch" if distributed else "none"
    if spec.seed is not None:
        config.randomness = {**(config.get("randomness") or {}), "seed": spec.seed}
    if distributed and spec.device == "cpu":
        config.model_wrapper_cfg = cpu_wrapper(config)
    return config


def leave_to_job(config: Config, work_dir: str) -> None:
    """Take out of a config what a job decides itself: start, stop, saving, trackers, launcher."""
    config.work_dir = work_dir
    config.load_from, config.resume, config.launcher = None, False, "none"
    default, custom, _ = split_hooks(config)
    config.default_hooks, config.custom_hooks = {**default, "checkpoint": None}, custom
    if config.get("visualizer"):
        config.visualizer.vis_backends = local_only(config.visualizer.get("vis_backends"))


def read_from_store(config: Config, spec: TrialSpec) -> None:
    """Make the config read prepared packs in place of videos, where the specification says so."""
    if not spec.reads_packs:
        return
    from pipeline.shared.store import StoreError
    from pipeline.train.transforms import use_spec

    try:
        use_spec(config, spec.data)
    except StoreError as error:
        raise JobFailure(Cause.BAD_DATA, str(error)) from error


def check(config: Config) -> None:
    """Raise JobFailure if the job cannot report on a training like this."""
    missing = [name for name in NEEDED if config.get(name) is None]
    if missing:
        raise JobFailure(
            Cause.BAD_CONFIG,
            f"The config has no {', '.join(missing)}; a trial is trained and validated.",
        )
    loop = config.train_cfg
    if not (loop.get("by_epoch") or loop.get("type") == "EpochBasedTrainLoop"):
        raise JobFailure(
            Cause.BAD_CONFIG,
            "train_cfg does not count in epochs; the plan does. Write "
            "train_cfg=dict(by_epoch=True, max_epochs=...).",
        )


def local_only(backends: Any) -> List[Any]:
    """Keep MMEngine's local log files; everything else is the control side's matter."""
    return [b for b in backends or [] if kind_of(b) == "LocalVisBackend"]


def cpu_wrapper(config: Config) -> Any:
    """Return the data-parallel wrapper of the config, without device ids."""
    wrapper = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": config.get("find_unused_parameters", False),
        **(config.get("model_wrapper_cfg") or {}),
    }
    return {**wrapper, "device_ids": None}
