"""A trial as the comparison page shows it, from its run directory or from the storage alone."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.project import Project
from pipeline.report.progress import row_gpu_hours, to_gpu_hours
from pipeline.report.stats.by_class import class_shares
from pipeline.report.stats.kept_scores import kept_curve, named_ratios
from pipeline.report.stats.readings import Reading, shown_store, store_of
from pipeline.shared.files import read_json, read_lines, read_objects
from pipeline.shared.measurement import Measurement, best_of, by_epoch, parse_measurements
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.start_record import changes, seconds_of_jobs, shown_codes, shown_gpu
from pipeline.shared.states import Phase, State
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow
from pipeline.track.sync_state import SENT

Record = Mapping[str, Any]

_CURVES = """
SELECT v.trial_id, v.step, v.intermediate_value AS top1
FROM trial_intermediate_values AS v JOIN pcan_trials AS p ON p.trial_id = v.trial_id
WHERE p.sweep = :sweep ORDER BY v.trial_id, v.step
"""
#: Of a trial whose run directory is on another host.
_ONLY_IN_FILES: Record = {
    **dict.fromkeys(("plan", "std_error", "clips", "imported", "gpu", "wandb")),
    **{"ratio_curve": None, "class_top1": None, "predictions": False},
    **{"config": {}, "code": {}, "changed": [], "ratios": {}},
}


def trial_record(
    folder: Path,
    spec: TrialSpec,
    reading: Reading | None,
    phase: str | None,
    hours: float | None,
) -> dict[str, Any]:
    """Return a trial as its run directory has it.

    Args:
        reading: of its best epoch, None where it has measured nothing.
        phase, hours: as the study storage knows them.
    """
    run = RunDir(folder)
    measured = parse_measurements(read_lines(run.measurements))
    outcome = read_json(run.outcome) or {}
    return {
        "id": spec.name,
        "variant": spec.variant,
        "number": spec.number,
        "recipe": _is_recipe(spec),
        "plan": spec.plan,
        "state": outcome.get("state") or State.RUNNING,
        "phase": _phase(outcome, phase),
        "std_error": reading.std_error if reading else None,
        "clips": reading.clips if reading else None,
        "predictions": bool(reading and reading.right is not None),
        "imported": (spec.imported or {}).get("log"),
        "confirms": spec.confirms,
        "cause": outcome.get("cause"),
        "reason": outcome.get("reason"),
        "planned": spec.epochs,
        "attempts": max((m.attempt for m in measured), default=spec.attempt or 1),
        "gpu_hours": hours or _gpu_hours(run, measured, spec),
        "gpu": gpu_use(run),
        "params": spec.values,
        "config": {**spec.overrides, **_circumstances(spec, folder.absolute().parents[3])},
        "code": shown_codes(spec.code),
        "changed": changes(run.read_starts()),
        "verdicts": _verdicts(run),
        "wandb": _wandb_url(run),
        **_by_clip(run, measured),
        **_curves(by_epoch(measured)),
    }


def _by_clip(run: RunDir, measured: Sequence[Measurement]) -> dict[str, Any]:
    """Return what the clips say at the best epoch: other ratios of the branches, each class."""
    top = best_of([one for one in measured if one.epoch > 0])
    if top is None:
        return {"ratios": {}, "ratio_curve": None, "class_top1": None}
    return {
        "ratios": named_ratios(top.extra),
        "ratio_curve": kept_curve(run, top.epoch),
        "class_top1": class_shares(run, top.epoch),
    }


def _is_recipe(spec: TrialSpec) -> bool:
    """Whether a trial is its variant's recipe as written, run by the plan itself."""
    if spec.imported or spec.confirms:
        return False
    return spec.recipe_hash is not None or spec.number == 0


def _phase(outcome: Mapping[str, Any], known: str | None) -> str:
    """Return a trial's phase; of one that has not ended the storage knows more than its files."""
    if outcome.get("state"):
        return Phase.DONE
    return known or (Phase.INTERRUPTED if outcome else Phase.RUNNING)


def _circumstances(spec: TrialSpec, root: Path) -> dict[str, Any]:
    """Return facts beside the config that also explain a difference between two trials.

    Args:
        root: the project's folder; a page that is sent to others does not name it.
    """
    start = (spec.warm_start or {}).get("checkpoint")
    facts = {
        "(seed)": spec.seed,
        "(device)": spec.device,
        "(processes)": spec.nproc,
        "(starting weights)": None if start is None else str(start).removeprefix(f"{root}/"),
        "(data store)": shown_store(store_of(spec.data)) or None,
        "(precision)": spec.precision,
        **{f"(speed) {name}": value for name, value in (spec.speed or {}).items()},
        **{f"(version) {name}": value for name, value in spec.versions.items()},
        **{f"(code) {place}": words for place, words in shown_codes(spec.code).items()},
        "(GPU)": shown_gpu(spec.gpu) if spec.gpu else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _gpu_hours(run: RunDir, measured: Sequence[Measurement], spec: TrialSpec) -> float | None:
    """Return the GPU hours of a trial by its run directory, None if none was timed."""
    seconds = seconds_of_jobs(run.read_starts(), measured)
    return round(to_gpu_hours(seconds, (spec.nproc or 1)), 4) if seconds else None


def _verdicts(run: RunDir) -> list[dict[str, Any]]:
    keys = ("epoch", "top1", "verdict", "rule", "threshold", "std_error", "reason", "next")
    return [{key: record.get(key) for key in keys} for record in run.read_verdicts()]


def _wandb_url(run: RunDir) -> str | None:
    url = (read_json(run.wandb / SENT) or {}).get("url")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None


def _curves(measured: Sequence[Measurement]) -> dict[str, list[Any]]:
    """Return columns, not rows: half the size, and what a chart takes."""
    return {
        "epochs": [m.epoch for m in measured],
        "top1": [finite_or_none(m.top1) for m in measured],
        "rgb": [finite_or_none(m.rgb_top1) for m in measured],
        "pose": [finite_or_none(m.pose_top1) for m in measured],
        "lr": [finite_or_none(m.lr) for m in measured],
        "loss": [finite_or_none(m.loss) for m in measured],
    }


def finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def gpu_use(run: RunDir) -> dict[str, float | None] | None:
    """Return a trial's figures over all its GPUs, None where none were sampled.

    `use` and `idle` (share of samples below 10 %) are means over the samples, `peak_mib` is the
    most of one GPU, `wh` the sum. An epoch that was trained again counts each time.
    """
    gpus = list(_gpus(read_objects(run.gpus)))
    if not gpus:
        return None
    return {
        "use": _mean(gpus, "use"),
        "idle": _mean(gpus, "idle"),
        "peak_mib": max((g["peak_mib"] for g in gpus if _known(g, "peak_mib")), default=None),
        "wh": _total(gpus, "wh"),
    }


def _gpus(lines: Sequence[Record]) -> Iterator[Record]:
    for line in lines:
        found = line.get("gpus")
        yield from (g for g in found or () if isinstance(g, dict) and g.get("samples"))


def _known(gpu: Record, key: str) -> bool:
    return isinstance(gpu.get(key), int | float)


def _mean(gpus: Sequence[Record], key: str) -> float | None:
    known = [(float(g[key]), int(g["samples"])) for g in gpus if _known(g, key)]
    total = sum(samples for _, samples in known)
    return round(sum(value * samples for value, samples in known) / total, 4) if total else None


def _total(gpus: Sequence[Record], key: str) -> float | None:
    known = [float(g[key]) for g in gpus if _known(g, key)]
    return round(sum(known), 3) if known else None


def best_of_trial(trial: Record) -> tuple[int, float] | None:
    """Return the best trained epoch of a trial's record and its top-1, the first of equals."""
    pairs = zip(trial["epochs"], trial["top1"], strict=True)
    known = [(epoch, top1) for epoch, top1 in pairs if epoch > 0 and top1 is not None]
    return max(known, key=lambda pair: (pair[1], -pair[0]), default=None)


def distant_trials(
    sweep: str, rows: Sequence[TrialRow], project: Project, storage: Storage
) -> list[dict[str, Any]]:
    """Return the trials whose run directories only other hosts have, as `collect` shows trials.

    Their top-1 by epoch is in the storage; branches, losses and configs stay where they ran.
    """
    hosts = {row.trial_id: host for row in rows if (host := row.remote_host(project.root))}
    if not hosts:
        return []
    curves: dict[int, list[tuple[int, float | None]]] = {}
    for point in storage.read(_CURVES, sweep=sweep):
        curves.setdefault(point["trial_id"], []).append((point["step"], point["top1"]))
    return [
        _distant_trial(row, hosts[row.trial_id], curves.get(row.trial_id, []))
        for row in rows
        if row.trial_id in hosts and not row.superseded
    ]


def _distant_trial(
    row: TrialRow, host: str, curve: Sequence[tuple[int, float | None]]
) -> dict[str, Any]:
    nothing = [None] * len(curve)
    reason = f": {row.reason}" if row.reason else ""
    return {
        **_ONLY_IN_FILES,
        "id": row.name,
        "variant": row.variant,
        "number": row.number,
        "recipe": row.recipe_hash is not None or row.number == 0,
        "state": row.state,
        "phase": row.phase,
        "confirms": row.confirms,
        "cause": row.cause,
        "reason": f"run directory on {host}{reason}",
        "planned": row.facts.get("epochs"),
        "attempts": row.attempt,
        "gpu_hours": round(row_gpu_hours(row), 4),
        "params": dict(row.params),
        "verdicts": [dict(verdict) for verdict in row.verdicts],
        "host": host,
        "epochs": [step for step, _ in curve],
        "top1": [top1 for _, top1 in curve],
        **dict.fromkeys(("rgb", "pose", "lr", "loss"), nothing),
    }
