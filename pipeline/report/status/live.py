"""The running trials of a sweep as `pcan sweep watch` shows them. Reads only.

The storage says which trials run; their run directories say where each is inside its epoch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.gates import next_gate
from pipeline.plan.judge import best
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import shown_reading
from pipeline.report.stats.reading_error import clips_of, reading_error
from pipeline.report.status.trial_status import eta_s, total_epochs
from pipeline.shared.files import read_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow, read_board


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialSnapshot:
    """One started trial at one moment.

    Args:
        running: a living launch works on it; `phase` then is the job's (train, val, ...).
        epoch: the epoch the job is in; `measured` is the latest that is finished.
        std_error: of `last_top1`; None where the number of clips is unknown.
        next_gate: the gate ahead and the distance to it, in words.
        ending: state and reason once it runs no more.
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
    return [_seen(row, sweep, project) for row in rows if not row.superseded]


def changes(before: Sequence[TrialSnapshot], now: Sequence[TrialSnapshot]) -> list[str]:
    """Return a line for each thing worth a line: a start, an epoch, an end."""
    known = {seen.trial: seen for seen in before}
    lines = []
    for seen in now:
        old = known.get(seen.trial)
        if seen.running and (old is None or not old.running or old.measured != seen.measured):
            lines.append(line(seen))
        elif not seen.running and old is not None and old.running:
            lines.append(f"{seen.trial} {seen.ending}")
    return lines


def line(seen: TrialSnapshot) -> str:
    """Return one line on a running trial."""
    total = f"/{seen.epochs}" if seen.epochs else ""
    parts = [f"{seen.trial} epoch {seen.measured}{total}"]
    if seen.last_top1 is not None:
        parts.append(f"top-1 {shown_reading(seen.last_top1, seen.std_error)}")
    if seen.verdict:
        parts.append(seen.verdict)
    if seen.lr is not None:
        parts.append(f"lr {seen.lr:.3g}")
    if seen.next_gate:
        parts.append(seen.next_gate)
    if seen.seconds_left is not None:
        parts.append(f"{shown_time(seen.seconds_left)} left")
    return " | ".join(parts)


def shown_time(seconds: float) -> str:
    """Return a duration as people say it: "4 h 10 min", "35 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _seen(row: TrialRow, sweep: Sweep, project: Project) -> TrialSnapshot:
    running = row.phase == "running"
    rundir = RunDir(project.root / row.run_dir) if row.run_dir else None
    now = (read_json(rundir.progress) or {}) if rundir and running else {}
    history = rundir.read_measurements() if rundir and running else []
    measured = history[-1].epoch if history else row.epoch
    top = best(history)
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
        next_gate=_ahead(row, sweep, history, measured) if running else "",
        seconds_left=_left(row, sweep, history, now) if running else None,
        verdict=_verdict(row, measured),
        ending="" if running else _ending(row),
    )


def _ahead(row: TrialRow, sweep: Sweep, history: Sequence[Measurement], measured: int) -> str:
    variant = sweep.variants.get(row.variant)
    gates = variant.gates if variant is not None else ()
    gate = next_gate(gates, measured)
    return gate.distance(history) if gate is not None else ""


def _left(
    row: TrialRow, sweep: Sweep, history: Sequence[Measurement], now: Mapping[str, Any]
) -> float | None:
    """Return the time left by the mean epoch so far, less what the running epoch has done."""
    took = [m.seconds for m in history if m.epoch > 0 and m.seconds is not None]
    epochs = total_epochs(row, sweep)
    if not took or epochs is None:
        return eta_s(row, sweep)
    left = float(epochs - history[-1].epoch)
    if now.get("phase") == "train" and now.get("iters") and now["epoch"] > history[-1].epoch:
        left -= min(1.0, float(now.get("iter") or 0) / float(now["iters"]))
    return max(0.0, left) * sum(took) / len(took)


def _verdict(row: TrialRow, measured: int) -> str:
    """Return the verdict on the latest epoch if it was not simply "go on"."""
    said = [v for v in row.verdicts if v.get("epoch") == measured and v.get("verdict") != "go"]
    if not said:
        return ""
    reason = str(said[-1]["reason"]).removeprefix(f"epoch {measured}: ")
    return f"{said[-1]['verdict']}: {reason}"


def _ending(row: TrialRow) -> str:
    state = row.state.lower() if row.finished else row.phase
    return f"{state}: {row.reason}" if row.reason else state
