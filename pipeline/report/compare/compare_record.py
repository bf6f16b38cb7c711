"""All trials of a sweep as one record: the data of the comparison page, `compare --json`.

It comes from the sweep file and the run directories; of trials whose run directories are on other
hosts it has what the storage knows. Reads only.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.ladder import VariantOutcome, walk
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep, Variant
from pipeline.plan.sweep_types import BEST_KNOWN
from pipeline.plan.verdict import VerdictKind
from pipeline.report.progress import row_gpu_hours, to_gpu_hours
from pipeline.report.stats.by_class import class_shares
from pipeline.report.stats.differences import differences
from pipeline.report.stats.gpu_use import gpu_use
from pipeline.report.stats.kept_scores import kept_curve, named_ratios
from pipeline.report.stats.readings import Reading, incomparable, read_best, shown_store, store_of
from pipeline.report.stats.repetitions import confirmation_of_trials
from pipeline.report.stats.winner_bias import CHOSEN_BY_MEAN, winner_record
from pipeline.shared.files import read_json, read_lines, timestamp
from pipeline.shared.measurement import Measurement, best_of, by_epoch, parse_measurements
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.start_record import changes, seconds_of_jobs, shown_codes, shown_gpu
from pipeline.shared.states import Phase, State
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow
from pipeline.study.yardstick import Yardstick, apart, grouped
from pipeline.track.sync_state import SENT

#: A run directory with its specification.
FolderSpec = tuple[Path, TrialSpec]

_CURVES = """
SELECT v.trial_id, v.step, v.intermediate_value AS top1
FROM trial_intermediate_values AS v JOIN pcan_trials AS p ON p.trial_id = v.trial_id
WHERE p.sweep = :sweep ORDER BY v.trial_id, v.step
"""


def collect(
    sweep_dir: Path,
    sweep: Sweep | None = None,
    lr_courses: Mapping[str, Sequence[float]] | None = None,
    phases: Mapping[str, str] | None = None,
    importances: Sequence[Mapping[str, Any]] | None = None,
    distant: Sequence[Mapping[str, Any]] = (),
    hours: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return what the page shows.

    Args:
        sweep_dir: `runs/<sweep>`.
        sweep: the plan; without it gates and bands come from the trials' own specs.
        lr_courses: by variant, the true learning rate of epochs 1, 2, ...
        phases: by trial name, what only the study storage knows (waiting, paused).
        distant: trials whose run directories other hosts have (`distant_trials`).
        importances: by study, which searched values mattered (`study.importance`).
        hours: by trial, GPU hours as the study storage counts them; of others they are taken from
            the run directory, to the last measured epoch.
    """
    specs = _specs(sweep_dir)
    readings = {folder: read_best(folder, spec.name, spec) for folder, spec in specs}
    known = hours or {}
    trials = [
        _trial(folder, spec, phases or {}, readings[folder], known.get(spec.name))
        for folder, spec in specs
    ]
    trials += [dict(trial) for trial in distant]
    first = specs[0][1] if specs else TrialSpec()
    names = _candidates(sweep, specs, trials)
    apart_ones = _apart(specs, names)
    trials = [{**trial, "apart": trial["id"] in apart_ones} for trial in trials]
    confirmation = confirmation_of_trials(trials, names)
    best = _best(names, confirmation, trials)
    return {
        "schema": 1,
        "sweep": sweep.name if sweep else first.sweep or sweep_dir.name,
        "made": timestamp(),
        "metric": sweep.objective.metric if sweep else first.metric,
        "goal": sweep.objective.goal if sweep else first.goal,
        "best_known": sweep.objective.best_known if sweep else first.best_known,
        "variants": _variants(sweep, specs, lr_courses or {}),
        "best": best,
        "trials": trials,
        "ladder": _ladder(sweep, trials),
        "not_comparable": _incomparable(sweep, specs, readings),
        "differences": differences(
            [one for one in readings.values() if one is not None],
            best["trial"] if best else None,
        ),
        "confirmation": confirmation,
        "on_new_clips": _on_new_clips(names, best, specs, readings),
        "importances": list(importances or ()),
    }


def _best(
    names: Sequence[str],
    confirmation: Mapping[str, Any] | None,
    trials: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """Return the winner as `study.best.best_row` chooses it, None where no trial is complete.

    Args:
        names: the trials that can win, best reading first.
    """
    repeated = {one["trial"]: one for one in (confirmation or {}).get("trials", ())}
    name = next(iter(repeated or names), None)
    trial = next((one for one in trials if one["id"] == name), None)
    if trial is None:
        return None
    epoch, top1 = _best_epoch(trial)
    confirmed = repeated.get(str(name))
    return {
        "trial": name,
        "top1": top1,
        "epoch": epoch,
        "std_error": trial["std_error"],
        "confirmed": confirmed
        and {k: confirmed[k] for k in ("mean", "spread")} | {"seeds": len(confirmed["values"])},
    }


def _best_epoch(trial: Mapping[str, Any]) -> tuple[int, float]:
    """Return the best trained epoch and its top-1, the first of equals."""
    pairs = zip(trial["epochs"], trial["top1"], strict=True)
    known = [(epoch, top1) for epoch, top1 in pairs if epoch > 0 and top1 is not None]
    return max(known, key=lambda pair: (pair[1], -pair[0]), default=(0, 0.0))


def _on_new_clips(
    names: Sequence[str],
    best: Mapping[str, Any] | None,
    specs: Sequence[FolderSpec],
    readings: Mapping[Path, Reading | None],
) -> dict[str, Any] | None:
    """Return what the winner is expected to read on new clips, if it had a rival."""
    by_name = {spec.name: readings[folder] for folder, spec in specs}
    found = [reading for name in names if (reading := by_name.get(name)) is not None]
    winner = next((one for one in found if best and one.trial == best["trial"]), None)
    if winner is None or best is None:
        return None
    others = [one for one in found if one is not winner]
    return winner_record(winner, others, CHOSEN_BY_MEAN if best["confirmed"] else "")


def _candidates(
    sweep: Sweep | None, specs: Sequence[FolderSpec], trials: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the complete trials that can win, in the order of `study.best.eligible`.

    Neither makers of weights, imports nor repeats; of trials that were measured differently, only
    those like the plan's first variant.
    """
    complete = {trial["id"] for trial in trials if trial["state"] == State.COMPLETE}
    makers = sweep.makers if sweep is not None else ()
    able = [
        spec
        for _, spec in specs
        if spec.name in complete
        and spec.variant not in makers
        and not (spec.imported or spec.confirms)
    ]
    start = sweep.ladder.start if sweep is not None else None
    able.sort(key=lambda spec: spec.variant != start)
    groups = grouped((spec.name, Yardstick.of(spec.metric, spec.data)) for spec in able)
    place = {name: at for at, name in enumerate(sweep.variants if sweep is not None else ())}
    record = {trial["id"]: trial for trial in trials}

    def order(name: str) -> tuple[float, int, str, int]:
        trial = record[name]
        variant = str(trial["variant"])
        known = place.get(variant, len(place))
        return -_best_epoch(trial)[1], known, variant, int(trial["number"])

    return sorted(groups[0][1], key=order) if groups else []


def _specs(sweep_dir: Path) -> list[FolderSpec]:
    folders = sorted(
        (spec.parent for spec in sweep_dir.glob("*/*/spec.json")),
        key=lambda p: (p.parent.name, len(p.name), p.name),
    )
    specs = [(folder, RunDir(folder).read_spec()) for folder in folders]
    return [(folder, spec) for folder, spec in specs if spec is not None]


def _trial(
    folder: Path,
    spec: TrialSpec,
    phases: Mapping[str, str],
    reading: Reading | None,
    hours: float | None,
) -> dict[str, Any]:
    run = RunDir(folder)
    measured = parse_measurements(read_lines(run.measurements))
    outcome = read_json(run.outcome) or {}
    name = spec.name
    return {
        "id": name,
        "variant": spec.variant,
        "number": spec.number,
        "recipe": _is_recipe(spec),
        "plan": spec.plan,
        "state": outcome.get("state") or State.RUNNING,
        "phase": _phase(outcome, phases.get(name)),
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
        "top1": [_finite(m.top1) for m in measured],
        "rgb": [_finite(m.rgb_top1) for m in measured],
        "pose": [_finite(m.pose_top1) for m in measured],
        "lr": [_finite(m.lr) for m in measured],
        "loss": [_finite(m.loss) for m in measured],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _incomparable(
    sweep: Sweep | None, specs: Sequence[FolderSpec], readings: Mapping[Path, Reading | None]
) -> str | None:
    makers = sweep.makers if sweep is not None else ()
    measured = [spec for folder, spec in specs if readings[folder] and spec.variant not in makers]
    kinds = apart((spec.name, Yardstick.of(spec.metric, spec.data)) for spec in measured)
    stores = incomparable((spec.name, store_of(spec.data), spec.precision) for spec in measured)
    return " ".join(filter(None, (kinds, stores))) or None


def _apart(specs: Sequence[FolderSpec], candidates: Sequence[str]) -> list[str]:
    """Return the trials that were measured otherwise than those that can win."""
    kinds = {spec.name: Yardstick.of(spec.metric, spec.data) for _, spec in specs}
    first = next((kinds[name] for name in candidates), None)
    return [name for name, one in kinds.items() if first is not None and not first.agrees(one)]


def _variants(
    sweep: Sweep | None, specs: Sequence[FolderSpec], lr_courses: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Return the plan's side of each variant: from the sweep file, else from its first trial."""
    variants: dict[str, dict[str, Any]] = {}
    if sweep is not None:
        variants = {name: _planned(variant) for name, variant in sweep.variants.items()}
    for _, spec in specs:
        name = spec.variant
        variants.setdefault(name, _from_spec(name, spec))
        variants[name].setdefault("lr", spec.others.get("lr_course"))
    for name, course in lr_courses.items():
        if name in variants:
            variants[name]["lr"] = [_finite(value) for value in course]
    return list(variants.values())


def _planned(variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "plan": variant.plan,
        "epochs": variant.epochs,
        "in_ladder": variant.in_ladder,
        "gates": [gate.record() for gate in variant.gates],
        "bands": [band.model_dump() for band in variant.bands],
    }


def _from_spec(name: str, spec: TrialSpec) -> dict[str, Any]:
    gates = [
        {
            **gate,
            "floor": spec.best_known if gate.get("floor") == BEST_KNOWN else gate.get("floor"),
        }
        for gate in spec.gates
    ]
    return {
        "name": name,
        "plan": spec.plan,
        "epochs": spec.epochs,
        "in_ladder": not spec.imported,
        "gates": gates,
        "bands": spec.bands,
    }


def _ladder(sweep: Sweep | None, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return how the ladder went: the recipes in the order in which they were tried."""
    if sweep is None:
        return None
    recipes = {t["variant"]: t for t in trials if t["recipe"]}  # the latest, if it was changed
    step = walk(sweep, {name: _outcome(trial) for name, trial in recipes.items()})
    rules = [{"when": rule.condition(), "next": list(rule.next)} for rule in sweep.ladder.after]
    return {"path": list(step.path), "why": step.why, "rules": rules}


def _outcome(trial: Mapping[str, Any]) -> VariantOutcome:
    state = trial["state"] if trial["phase"] == Phase.DONE else None
    stopping = [v for v in trial["verdicts"] if v["verdict"] == VerdictKind.PRUNE]
    verdict = stopping[-1] if stopping else None
    return VariantOutcome(state=state, verdict=verdict, cause=trial["cause"])


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
        "id": row.name,
        "variant": row.variant,
        "number": row.number,
        "recipe": row.recipe_hash is not None or row.number == 0,
        "plan": None,
        "state": row.state,
        "phase": row.phase,
        "std_error": None,
        "clips": None,
        "predictions": False,
        "imported": None,
        "confirms": row.confirms,
        "cause": row.cause,
        "reason": f"run directory on {host}{reason}",
        "planned": row.facts.get("epochs"),
        "attempts": row.attempt,
        "gpu_hours": round(row_gpu_hours(row), 4),
        "gpu": None,
        "params": dict(row.params),
        "config": {},
        "code": {},
        "changed": [],
        "verdicts": [dict(verdict) for verdict in row.verdicts],
        "wandb": None,
        "host": host,
        "ratios": {},
        "ratio_curve": None,
        "class_top1": None,
        "epochs": [step for step, _ in curve],
        "top1": [top1 for _, top1 in curve],
        "rgb": nothing,
        "pose": nothing,
        "lr": nothing,
        "loss": nothing,
    }
