"""`pcan sweep rerun`: train a trial's first epoch again and compare it with the record.

The job gets the recorded config, seed, starting weights and number of processes, in a folder of
its own that is removed afterwards; neither the trial nor the storage is touched. On the CPU equal
code, packages and data give equal bits. A GPU adds in no fixed order: there readings may differ as
much as `ERRORS` standard errors of a difference, and losses by the share `LOSS_NOISE`.
"""

import dataclasses
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, JobFailed, NoResult
from pipeline.job.exit_cause import classify_exit, read_outcome
from pipeline.job.process import Command, JobProcess
from pipeline.job.resolve import resolve
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import interpreter, job_env
from pipeline.launch.messages import log_excerpt
from pipeline.launch.start_facts import run_with, start_line
from pipeline.launch.workdir import run_dir
from pipeline.plan.project import Project, no_such_trial
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import standard_error
from pipeline.shared.files import read_json, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir, run_directories
from pipeline.shared.spec import TrialSpec
from pipeline.shared.start_record import changes
from pipeline.shared.states import Cause

#: How far two losses of the same epoch on a GPU may lie apart, as a share of the larger.
LOSS_NOISE = 0.02
#: A reading on a GPU may differ by this number of standard errors of a difference.
ERRORS = 2.0
#: How long the job waits after its epoch for the request to stop.
WAIT_S = 60.0
POLL_S = 0.1
#: Fields that differ between two equal epochs.
_OTHERWISE = ("epoch", "seconds", "time", "times", "attempt", "extra")


def rerun(sweep: Sweep, project: Project, name: str, slot: Slot) -> dict[str, Any]:
    """Return how a trial's first measured epoch, trained again, compares with the record.

    Args:
        name: VARIANT/NUMBER.
        slot: held by the caller.

    Raises:
        InputError: there is no such trial, or its first epoch was trained by another one.
        NoResult: it has measured no epoch.
        JobFailed: the job did not reach the epoch.
    """
    run = recorded_run(sweep, project, name)
    spec = run.read_spec() or TrialSpec()
    recorded = next(m for m in run.read_measurements() if m.epoch > 0)
    project.cache.mkdir(parents=True, exist_ok=True)
    again = RunDir(tempfile.mkdtemp(prefix="rerun-", dir=project.cache))
    try:
        start = _prepare(sweep, project, run, again, slot)
        measured = _train(sweep, project, again, slot, recorded.epoch)
    finally:
        shutil.rmtree(again.root, ignore_errors=True)
    clips = (read_json(run.facts) or {}).get("val_clips")
    exact = slot.device == "cpu" and spec.device == "cpu"
    values = compare(recorded, measured, clips, exact)
    return {
        "schema": 1,
        "trial": name,
        "epoch": recorded.epoch,
        "device": slot.device,
        "exact": exact,
        "same": all(value["same"] for value in values),
        "values": values,
        "changed": changes([*run.read_starts()[:1], start]),
    }


def recorded_run(sweep: Sweep, project: Project, name: str) -> RunDir:
    """Return the run directory of a trial whose first epoch can be trained again.

    Raises:
        InputError: there is no such trial, or its first epoch was trained by another one.
        NoResult: it has measured no epoch.
    """
    variant, _, number = name.rpartition("/")
    run = run_dir(project, sweep.name, variant, number)
    spec = run.read_spec() if variant else None
    if spec is None or not run.config.is_file():
        known = run_directories(project.runs / sweep.name)
        names = ["/".join(folder.parts[-2:]) for folder in known]
        raise no_such_trial(sweep.name, name, names, project.runs)
    if spec.continues:
        raise InputError(
            f"{name} goes on from {spec.continues}, which trained its first epochs: "
            f"pcan sweep rerun {spec.continues} --check"
        )
    if not any(m.epoch > 0 for m in run.read_measurements()):
        raise NoResult(f"{name} has measured no epoch yet, so there is nothing to compare with.")
    return run


def _prepare(
    sweep: Sweep, project: Project, run: RunDir, again: RunDir, slot: Slot
) -> dict[str, Any]:
    """Write the run directory of the repetition; return what it starts with."""
    spec = run.read_spec() or TrialSpec()
    again.checkpoints.mkdir()
    shutil.copy(run.config, again.config)
    sets = {spec.name: spec.overrides}
    config = resolve(sweep, project, sets, speed=spec.speed).configs[spec.name]
    placed = dataclasses.replace(config, text=run.config.read_text())
    spec = dataclasses.replace(
        spec,
        attempt=1,
        resume=None,
        device=slot.device,
        judge_wait_s=WAIT_S,
        warm_start=_warm_start(sweep, project, spec),
        **run_with(project, sweep, again, placed, slot, None),
    )
    write_json(again.spec, spec.to_json())
    return {**start_line(spec), "attempt": "now"}


def _warm_start(sweep: Sweep, project: Project, spec: TrialSpec) -> dict[str, Any] | None:
    """Return the recorded warm start, its file where this project has it."""
    recorded = spec.warm_start
    if recorded is None or Path(str(recorded["checkpoint"])).is_file():
        return recorded
    variant = sweep.variants.get(spec.variant)
    start = variant.warm_start if variant is not None else None
    file = start.file(project.root) if start is not None else None
    return recorded if file is None else {**recorded, "checkpoint": str(file)}


def _train(sweep: Sweep, project: Project, run: RunDir, slot: Slot, epoch: int) -> Measurement:
    """Train up to an epoch and return its measurement; no process is left."""
    job, root = sweep.job, project.root
    nproc = (run.read_spec() or TrialSpec()).nproc or job.gpus
    command = Command(
        python=interpreter(job, root),
        nproc=nproc,
        cwd=root,
        env=job_env(job, root),
        visible=slot.visible,
    )
    process = JobProcess(run, run.root.name, command)
    try:
        while process.running():
            _answer(run, epoch)
            time.sleep(POLL_S)
    finally:
        process.kill()
        process.reap()
    found = next((m for m in run.read_measurements() if m.epoch == epoch), None)
    if found is None:
        ended = read_outcome(run) or classify_exit(
            run, process.returncode, nproc, process.log_start
        )
        raise JobFailed(
            f"Epoch {epoch} was not reached: {ended.reason}\n{log_excerpt(run, nproc)}"
        )
    return found


def _answer(run: RunDir, epoch: int) -> None:
    """Let the job go on after an earlier epoch, and stop it after the wanted one."""
    measured = run.read_measurements()
    if not measured:
        return
    last = measured[-1].epoch
    if last >= epoch and not run.stop.exists():
        stop = {"state": None, "cause": Cause.INTERRUPTED, "reason": "One epoch was asked for."}
        write_json(run.stop, stop)
    write_json(run.judged, {"epoch": last}, durable=False)


def compare(
    recorded: Measurement, measured: Measurement, clips: int | None, exact: bool
) -> list[dict[str, Any]]:
    """Return each figure of both measurements, and whether they count as the same.

    Args:
        clips: validation clips; unknown, readings on a GPU have to be equal.
        exact: the figures have to be equal to the bit.
    """
    was, now = _figures(recorded), _figures(measured)
    found = []
    for name in dict.fromkeys([*was, *now]):
        first, second = was.get(name), now.get(name)
        allowed = 0.0 if exact else _noise(name, first, second, clips)
        found.append(
            {
                "name": name,
                "recorded": first,
                "now": second,
                "allowed": allowed,
                "same": _same(first, second, allowed),
            }
        )
    return found


def _figures(m: Measurement) -> dict[str, float]:
    fields = {
        f.name: getattr(m, f.name) for f in dataclasses.fields(m) if f.name not in _OTHERWISE
    }
    extra = {name: value for name, value in m.extra.items() if "seconds" not in name}
    return {name: value for name, value in {**fields, **extra}.items() if value is not None}


def _noise(name: str, first: float | None, second: float | None, clips: int | None) -> float:
    """Return how far two figures of the same epoch may lie apart on a GPU."""
    if first is None or second is None or name == "lr":
        return 0.0
    if "top1" in name:
        errors = [standard_error(value, clips) or 0.0 for value in (first, second)]
        return ERRORS * math.hypot(*errors)
    return LOSS_NOISE * max(abs(first), abs(second))


def _same(first: float | None, second: float | None, allowed: float) -> bool:
    if first is None or second is None:
        return False
    return first == second or abs(first - second) <= allowed or first != first and second != second
