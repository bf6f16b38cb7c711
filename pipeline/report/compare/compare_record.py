"""All trials of a sweep as one record: the data of the comparison page, `compare --json`.

It comes from the sweep file and the run directories; of trials whose run directories are on other
hosts it has what the storage knows. Reads only.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.ladder import VariantOutcome, walk
from pipeline.plan.sweep import Sweep, Variant
from pipeline.plan.sweep_types import BEST_KNOWN
from pipeline.plan.verdict import VerdictKind
from pipeline.report.compare.compare_trials import best_of_trial, finite_or_none, trial_record
from pipeline.report.stats.differences import differences
from pipeline.report.stats.readings import Reading, incomparable, read_best, store_of
from pipeline.report.stats.repetitions import confirmation_of_trials
from pipeline.report.stats.winner_bias import CHOSEN_BY_MEAN, winner_record
from pipeline.shared.files import timestamp
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Phase, State
from pipeline.study.yardstick import Yardstick, apart, grouped

#: A run directory with its specification.
FolderSpec = tuple[Path, TrialSpec]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredFacts:
    """What only the study storage knows of a sweep.

    Args:
        phases: by trial name (waiting, paused).
        hours: by trial, GPU hours; those of other trials are taken from their run directories, to
            the last measured epoch.
        distant: trials whose run directories other hosts have (`distant_trials`).
        importances: by study, which searched values mattered (`study.importance`).
    """

    phases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hours: Mapping[str, float] = dataclasses.field(default_factory=dict)
    distant: Sequence[Mapping[str, Any]] = ()
    importances: Sequence[Mapping[str, Any]] = ()


def collect(
    sweep_dir: Path,
    sweep: Sweep | None = None,
    lr_courses: Mapping[str, Sequence[float]] | None = None,
    stored: StoredFacts | None = None,
) -> dict[str, Any]:
    """Return what the page shows.

    Args:
        sweep_dir: `runs/<sweep>`.
        sweep: the plan; without it gates and bands come from the trials' own specs.
        lr_courses: by variant, the true learning rate of epochs 1, 2, ...
        stored: None where there is no storage.
    """
    stored = stored or StoredFacts()
    specs = _specs(sweep_dir)
    readings = {folder: read_best(folder, spec.name, spec) for folder, spec in specs}
    trials = _trials(specs, readings, stored)
    first = specs[0][1] if specs else TrialSpec()
    objective = sweep.objective if sweep else first
    names = _candidates(sweep, specs, trials)
    apart_ones = _apart(specs, names)
    trials = [{**trial, "apart": trial["id"] in apart_ones} for trial in trials]
    confirmation = confirmation_of_trials(trials, names)
    best = _best(names, confirmation, trials)
    known = [one for one in readings.values() if one is not None]
    return {
        "schema": 1,
        "sweep": sweep.name if sweep else first.sweep or sweep_dir.name,
        "made": timestamp(),
        "metric": objective.metric,
        "goal": objective.goal,
        "best_known": objective.best_known,
        "variants": _variants(sweep, specs, lr_courses or {}),
        "best": best,
        "trials": trials,
        "ladder": _ladder(sweep, trials),
        "not_comparable": _incomparable(sweep, specs, readings),
        "differences": differences(known, best["trial"] if best else None),
        "confirmation": confirmation,
        "on_new_clips": _on_new_clips(names, best, specs, readings),
        "importances": list(stored.importances),
    }


def _trials(
    specs: Sequence[FolderSpec], readings: Mapping[Path, Reading | None], stored: StoredFacts
) -> list[dict[str, Any]]:
    here = [
        trial_record(
            folder,
            spec,
            readings[folder],
            phase=stored.phases.get(spec.name),
            hours=stored.hours.get(spec.name),
        )
        for folder, spec in specs
    ]
    return here + [dict(trial) for trial in stored.distant]


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
    epoch, top1 = best_of_trial(trial) or (0, 0.0)
    confirmed = repeated.get(str(name))
    return {
        "trial": name,
        "top1": top1,
        "epoch": epoch,
        "std_error": trial["std_error"],
        "confirmed": confirmed
        and {k: confirmed[k] for k in ("mean", "spread")} | {"seeds": len(confirmed["values"])},
    }


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
        _, top1 = best_of_trial(trial) or (0, 0.0)
        return -top1, known, variant, int(trial["number"])

    return sorted(groups[0][1], key=order) if groups else []


def _specs(sweep_dir: Path) -> list[FolderSpec]:
    folders = sorted(
        (spec.parent for spec in sweep_dir.glob("*/*/spec.json")),
        key=lambda p: (p.parent.name, len(p.name), p.name),
    )
    specs = [(folder, RunDir(folder).read_spec()) for folder in folders]
    return [(folder, spec) for folder, spec in specs if spec is not None]


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
            variants[name]["lr"] = [finite_or_none(value) for value in course]
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
