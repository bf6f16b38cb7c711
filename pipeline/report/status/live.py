"""The running trials of a sweep as `pcan sweep watch` shows them. Reads only.

The storage says which trials run; their run directories say where each is inside its epoch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.gates import next_gate
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import VerdictKind, shown_reading
from pipeline.report.progress import (
    row_seconds_left,
    seconds_left,
    shown_time,
    total_epochs,
)
from pipeline.report.stats.readings import clips_of, reading_error
from pipeline.shared.files import read_json
from pipeline.shared.measurement import Measurement, best_trained
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Phase
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow, read_board


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialSnapshot:
    """One started trial at one moment.

    Args:
        running: a launch that is alive runs it; `phase` then is the job's (train, val, ...).
        epoch: the epoch the job is in; `measured` is the latest that is finished.
        std_error: of `last_top1`; None where the number of clips is unknown.
        next_gate: the gate ahead and the distance to it, in words.
        ending: state and reason once it no longer runs.
    """

    trial: str
    running: bool
    phase: str
    epoch: int
    epochs: int | None
    measured: int
    iteration: int | None
    iterations: int | None
    last_top1: float | None
    best_top1: float | None
    std_error: float | None
    lr: float | None
    loss: float | None
    next_gate: str
    seconds_left: float | None
    verdict: str
    ending: str

    def record(self) -> dict[str, Any]:
        """Return the trial as `watch --json` prints it."""
        return dataclasses.asdict(self)


def snapshot(sweep: Sweep, project: Project, storage: Storage) -> list[TrialSnapshot]:
    """Return the trials that were started, in the order of the studies.

    Raises:
        StorageError: the storage cannot be read.
    """
    rows = [row for row in read_board(sweep.name, storage) if row.attempt > 0]
    return [_snapshot(row, sweep, project) for row in rows if not row.superseded]


def changes(before: Sequence[TrialSnapshot], now: Sequence[TrialSnapshot]) -> list[str]:
    """Return a line for each start, each epoch and each end between two moments."""
    known = {trial.trial: trial for trial in before}
    lines = []
    for trial in now:
        old = known.get(trial.trial)
        if trial.running and (old is None or not old.running or old.measured != trial.measured):
            lines.append(progress_line(trial))
        elif not trial.running and old is not None and old.running:
            lines.append(f"{trial.trial} {trial.ending}")
    return lines


def progress_line(trial: TrialSnapshot) -> str:
    """Return one line on a running trial."""
    total = f"/{trial.epochs}" if trial.epochs else ""
    parts = [f"{trial.trial} epoch {trial.measured}{total}"]
    if trial.last_top1 is not None:
        parts.append(f"top-1 {shown_reading(trial.last_top1, trial.std_error)}")
    if trial.verdict:
        parts.append(trial.verdict)
    if trial.lr is not None:
        parts.append(f"lr {trial.lr:.3g}")
    if trial.next_gate:
        parts.append(trial.next_gate)
    if trial.seconds_left is not None:
        parts.append(f"{shown_time(trial.seconds_left)} left")
    return " | ".join(parts)


def _snapshot(row: TrialRow, sweep: Sweep, project: Project) -> TrialSnapshot:
    running = row.phase == Phase.RUNNING
    rundir = RunDir(project.root / row.run_dir) if row.run_dir else None
    now = (read_json(rundir.progress) or {}) if rundir and running else {}
    history = rundir.read_measurements() if rundir and running else []
    measured = history[-1].epoch if history else row.epoch
    top = best_trained(history)
    last = history[-1].top1 if history else row.last_top1
    host = row.remote_host(project.root)
    unknown = f"on {host}" if host else "starting"
    return TrialSnapshot(
        trial=row.name,
        running=running,
        phase=str(now.get("phase", unknown)) if running else row.phase,
        epoch=int(now.get("epoch") or measured),
        epochs=total_epochs(row, sweep),
        measured=measured,
        iteration=now.get("iter"),
        iterations=now.get("iters"),
        last_top1=last,
        best_top1=top.top1 if top else row.best_top1,
        std_error=reading_error(last, clips_of(row, project.root)),
        lr=now.get("lr", row.lr),
        loss=now.get("loss"),
        next_gate=_next_gate(row, sweep, history, measured) if running else "",
        seconds_left=_seconds_left(row, sweep, history, now) if running else None,
        verdict=_verdict(row, measured),
        ending="" if running else _ending(row),
    )


def _next_gate(row: TrialRow, sweep: Sweep, history: Sequence[Measurement], epoch: int) -> str:
    variant = sweep.variants.get(row.variant)
    gate = next_gate(variant.gates, epoch) if variant is not None else None
    return gate.distance(history) if gate is not None else ""


def _seconds_left(
    row: TrialRow, sweep: Sweep, history: Sequence[Measurement], now: Mapping[str, Any]
) -> float | None:
    """Return the time left by the measured epochs, else by what the storage knows."""
    epochs = total_epochs(row, sweep)
    measured = seconds_left(epochs, history, now) if epochs is not None else None
    return row_seconds_left(row, sweep) if measured is None else measured


def _verdict(row: TrialRow, epoch: int) -> str:
    """Return the verdict on an epoch unless it was only "go on"."""
    on_epoch = [
        v for v in row.verdicts if v.get("epoch") == epoch and v.get("verdict") != VerdictKind.GO
    ]
    if not on_epoch:
        return ""
    reason = str(on_epoch[-1]["reason"]).removeprefix(f"epoch {epoch}: ")
    return f"{on_epoch[-1]['verdict']}: {reason}"


def _ending(row: TrialRow) -> str:
    state = row.state.lower() if row.finished else row.phase
    return f"{state}: {row.reason}" if row.reason else state
