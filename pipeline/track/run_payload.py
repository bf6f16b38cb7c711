"""What is sent to W&B about a trial, derived from its run directory alone. Only reads.

The rows are a fixed sequence: row k is the k-th measurement. So the number of rows that W&B holds
is enough to resume after any interruption.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.shared.files import moment, read_json, read_objects
from pipeline.shared.measurement import Measurement
from pipeline.shared.redact import redact
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.start_record import shown_codes, shown_gpu
from pipeline.shared.states import Cause, Phase, State

#: What W&B shows as status; Optuna's state where the trial has ended.
STATUS: Mapping[str | None, str] = {
    State.COMPLETE: "complete",
    State.PRUNED: "pruned",
    State.FAIL: "failed",
}
#: What decides, again under names that put it on the first page in this order.
DECIDES: Mapping[str, str] = {
    "val/top1": "decides/1-top1",
    "val/rgb_top1": "decides/2-rgb_top1",
    "val/pose_top1": "decides/3-pose_top1",
    "train/lr": "decides/4-lr",
    "train/loss": "decides/5-loss",
    "plan/floor": "decides/6-floor",
    "plan/target": "decides/7-target",
}
#: Groups of names in a row that W&B charts by itself, and those that it only keeps.
CHARTED, KEPT = ("decides/*", "z-*"), ("val/*", "train/*", "plan/*")
#: Before the names of what decides nothing, so that its sections come last: W&B sorts by name.
REST = "z-"
VERDICT_COLUMNS = ("epoch", "top1", "verdict", "rule", "threshold", "reason", "next")


@dataclass(frozen=True, kw_only=True)
class WandbTarget:
    """Where runs go if their spec does not name a project or an entity."""

    project: str | None = None
    entity: str | None = None

    def argv(self) -> list[str]:
        """Return the options that pass the target to a child process."""
        given = {"--project": self.project, "--entity": self.entity}
        return [word for flag, value in given.items() if value for word in (flag, value)]


@dataclass(frozen=True, kw_only=True)
class TrialFiles:
    """The files of one run directory at one moment."""

    folder: Path
    spec: TrialSpec
    measurements: Sequence[Measurement]
    gpus: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Mapping[str, Any]]
    outcome: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def ended(self) -> bool:
        """Whether no job runs it: it is done, or was interrupted."""
        return self.outcome is not None

    @property
    def status(self) -> str:
        """running, interrupted, paused, complete, pruned or failed."""
        if self.outcome is None:
            return Phase.RUNNING.value
        state = self.outcome.get("state")
        if state is None and self.outcome.get("cause") == Cause.PAUSED:
            return Phase.PAUSED.value
        return STATUS.get(state, Phase.INTERRUPTED.value)

    @property
    def best(self) -> Measurement | None:
        """The best trained epoch; the check of the starting weights does not count."""
        trained = [m for m in self.measurements if m.epoch > 0 and m.finite]
        return max(trained, key=lambda m: m.top1, default=None)


def read_trial(folder: Path) -> TrialFiles | None:
    """Return a run directory's files; None as long as it has no spec."""
    run = RunDir(folder)
    spec = run.read_spec()
    if spec is None:
        return None
    return TrialFiles(
        folder=folder,
        spec=spec,
        measurements=run.read_measurements(),
        gpus=read_objects(run.gpus),
        verdicts=run.read_verdicts(),
        outcome=read_json(run.outcome),
    )


def run_id(sweep: str, variant: str, number: int | str, created: str) -> str:
    """Return the W&B run id of a trial: readable, stable, and new for a new sweep of that name.

    Args:
        created: the spec's `created`; distinguishes a sweep from a deleted one of its name.
    """
    name = f"{sweep}/{variant}/{number}"
    digest = hashlib.sha256(f"{name}@{created}".encode()).hexdigest()[:10]
    return f"{re.sub('[^A-Za-z0-9_]+', '-', name).strip('-')[:48]}-{digest}"


def id_of(spec: TrialSpec) -> str:
    """Return the id that the spec carries, or the one it would have been given."""
    given = spec.wandb.get("id")
    if given:
        return str(given)
    return run_id(spec.sweep, spec.variant, spec.number, str(spec.created))


def rows(trial: TrialFiles) -> list[dict[str, Any]]:
    """Return one W&B row a measurement, with the plan's values for its epoch."""
    plan = PlanSeries(trial.spec)
    gpus = {record.get("epoch"): record.get("gpus") or [] for record in trial.gpus}
    best = math.nan
    table = []
    for m in trial.measurements:
        if m.epoch > 0 and m.finite:
            best = m.top1 if math.isnan(best) else max(best, m.top1)
        row: dict[str, Any] = {
            "epoch": m.epoch,
            "val/top1": m.top1,
            "val/rgb_top1": m.rgb_top1,
            "val/pose_top1": m.pose_top1,
            "val/best_top1": None if math.isnan(best) else best,
            "train/lr": m.lr,
            "train/loss": m.loss,
            "train/seconds": m.seconds,
            **{f"{REST}extra/{name}": value for name, value in m.extra.items()},
            **{f"{REST}time/{name}": value for name, value in m.times.items()},
            **_gpu_columns(gpus.get(m.epoch, [])),
            **plan.at(m.epoch),
            "_timestamp": moment(m.time),  # W&B's own: when it was measured, not when it was sent
        }
        row |= {name: row[key] for key, name in DECIDES.items()}
        table.append({key: value for key, value in row.items() if value is not None})
    return table


def _gpu_columns(gpus: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what each GPU of the trial did in an epoch, by its place in the trial."""
    shown = ("use", "idle", "peak_mib", "wh", "celsius")
    return {
        f"{REST}gpu/{place}.{name}": float(gpu[name])
        for place, gpu in enumerate(gpus)
        for name in shown
        if isinstance(gpu.get(name), int | float)
    }


class PlanSeries:
    """The plan's gates, band and goal as series over epochs, so that W&B can chart them."""

    def __init__(self, spec: TrialSpec) -> None:
        self.goal = spec.goal
        self.floors = _levels(spec.gates, "floor", spec.best_known)
        self.targets = _levels(spec.gates, "target", spec.best_known)
        bands = [b for b in spec.bands if b.get("top1")]
        self.low = [(int(b["epoch"]), float(b["top1"][0])) for b in bands]
        self.high = [(int(b["epoch"]), float(b["top1"][1])) for b in bands]

    def at(self, epoch: int) -> dict[str, float | None]:
        """Return the series' values at an epoch; a gate counts from the one before up to its own.

        Between two epochs of the band the values are interpolated.
        """
        return {
            "plan/goal": self.goal,
            "plan/floor": _ahead(self.floors, epoch),
            "plan/target": _ahead(self.targets, epoch),
            "plan/band_low": _between(self.low, epoch),
            "plan/band_high": _between(self.high, epoch),
        }


def config(trial: TrialFiles) -> dict[str, Any]:
    """Return the flat, redacted config: what one filters, groups and compares by."""
    spec = trial.spec
    plain = ("sweep", "variant", "number", "plan", "epochs", "metric", "goal", "best_known")
    flat = {key: getattr(spec, key) for key in (*plain, "seed", "nproc", "device", "config_hash")}
    warm = spec.warm_start or {}
    flat["warm_start"] = Path(str(warm["checkpoint"])).name if warm.get("checkpoint") else None
    data = spec.data or {}
    flat["data"] = data.get("store")
    flat |= {f"data_{key}": data[key] for key in ("profile", "digest") if data.get(key)}
    flat |= {f"versions.{name}": value for name, value in spec.versions.items()}
    flat |= {f"code.{place}": words for place, words in shown_codes(spec.code).items()}
    for place, code in (spec.code or {}).items():
        flat |= {f"code.{place}.{key}": (code or {}).get(key) for key in ("commit", "dirty")}
    flat["gpu"] = shown_gpu(spec.gpu)
    flat |= {"precision": spec.precision} if spec.precision else {}
    flat |= {f"speed.{name}": value for name, value in (spec.speed or {}).items()}
    changed = {**_flat(spec.overrides), **_flat(spec.values)}
    flat |= changed
    flat |= {
        name: changed[path] for name, path in _short_names(changed).items() if name not in flat
    }
    cleaned: dict[str, Any] = redact(flat)
    return cleaned


def summary(trial: TrialFiles) -> dict[str, Any]:
    """Return the figures a table of runs is sorted by, and the trial's status."""
    best, last = trial.best, (trial.measurements[-1] if trial.measurements else None)
    outcome = trial.outcome or {}
    judged = trial.verdicts[-1] if trial.verdicts else {}
    figures: dict[str, Any] = {
        "status": trial.status,
        "reason": outcome.get("reason") or judged.get("reason"),
        "cause": outcome.get("cause"),
        "best_top1": best.top1 if best else None,
        "best_epoch": best.epoch if best else None,
        "final_top1": last.top1 if last else None,
        "epochs_done": last.epoch if last else 0,
        "gate": judged.get("rule"),
        "verdict": judged.get("verdict"),
    }
    cleaned: dict[str, Any] = redact(figures)
    return cleaned


def identity(trial: TrialFiles, identifier: str, target: WandbTarget) -> dict[str, Any]:
    """Return how the run is filed: name, group, job type, tags, notes."""
    spec = trial.spec
    given = spec.wandb
    return {
        "id": identifier,
        "name": trial.name,
        "group": given.get("group") or spec.sweep,
        "job_type": spec.variant,
        "project": given.get("project") or target.project or "pcan",
        "entity": given.get("entity") or target.entity,
        "tags": [spec.variant] + ([f"plan {spec.plan}"] if spec.plan else []),
        "notes": redact(str(spec.others.get("notes") or "")) or None,
    }


def verdict_table(trial: TrialFiles) -> list[list[Any]]:
    """Return the verdicts as rows of VERDICT_COLUMNS; text and numbers only."""
    table = []
    for verdict in trial.verdicts:
        cells = [verdict.get(column) for column in VERDICT_COLUMNS]
        table.append([_cell(cell) for cell in cells])
    cleaned: list[list[Any]] = redact(table)
    return cleaned


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else json.dumps(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as dotted keys; W&B compares columns, not trees."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            flat[f"{prefix}{key}"] = json.dumps(redact(value))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _short_names(paths: Iterable[str]) -> dict[str, str]:
    """Return the last part of each config path that no other shares: "lr" for ...optimizer.lr."""
    last: dict[str, list[str]] = {}
    for path in paths:
        last.setdefault(path.rpartition(".")[2], []).append(path)
    named = {name: found[0] for name, found in last.items() if len(found) == 1}
    return {name: path for name, path in named.items() if name != path and not name.isdigit()}


def _levels(gates: Any, kind: str, best_known: Any) -> list[tuple[int, float]]:
    levels = []
    for gate in gates or []:
        level = best_known if gate.get(kind) == "best_known" else gate.get(kind)
        if level is not None:
            levels.append((int(gate["epoch"]), float(level)))
    return sorted(levels)


def _ahead(levels: Sequence[tuple[int, float]], epoch: int) -> float | None:
    """Return the level of the first gate at or after `epoch`, else the last gate's."""
    if not levels:
        return None
    return next((level for at, level in levels if at >= epoch), levels[-1][1])


def _between(points: Sequence[tuple[int, float]], epoch: int) -> float | None:
    for (left, low), (right, high) in zip(points, points[1:], strict=False):
        if left <= epoch <= right:
            return low + (high - low) * (epoch - left) / (right - left)
    return next((level for at, level in points if at == epoch), None)
