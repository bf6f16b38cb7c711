"""The plan's side of the comparison page: variants with gates and bands, and the ladder."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.ladder import VariantOutcome, walk
from pipeline.plan.sweep import Sweep, Variant
from pipeline.shared.spec import TrialSpec


def short(value: float | None) -> float | None:
    """Return a number with as many digits as a chart can show; None where it has no value."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")


def variants_of(
    sweep: Sweep | None,
    specs: Sequence[tuple[Path, TrialSpec]],
    lr_courses: Mapping[str, Sequence[float]],
) -> list[dict[str, Any]]:
    """The plan's side of each variant: from the sweep file, else from its first trial."""
    told: dict[str, dict[str, Any]] = {}
    if sweep is not None:
        told = {name: _planned(variant) for name, variant in sweep.variants.items()}
    for _, spec in specs:
        name = spec.variant
        told.setdefault(name, _from_spec(name, spec))
        told[name].setdefault("lr", spec.others.get("lr_course"))
    for name, course in lr_courses.items():
        if name in told:
            told[name]["lr"] = [short(value) for value in course]
    return list(told.values())


def _planned(variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "plan": variant.plan,
        "epochs": variant.epochs,
        "in_ladder": variant.in_ladder,
        "gates": [dataclasses.asdict(gate) for gate in variant.gates],
        "bands": [dataclasses.asdict(band) for band in variant.bands],
    }


def _from_spec(name: str, spec: TrialSpec) -> dict[str, Any]:
    gates = [
        {
            **gate,
            "floor": spec.best_known if gate.get("floor") == "best_known" else gate.get("floor"),
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


def ladder_of(sweep: Sweep | None, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How the ladder went: the recipes in the order in which they were tried."""
    if sweep is None:
        return None
    recipes = {t["variant"]: t for t in trials if t["recipe"]}  # the latest, if it was changed
    ended = {name: _ended(trial) for name, trial in recipes.items()}
    step = walk(sweep, ended)
    rules = [{"when": rule.condition(), "next": list(rule.next)} for rule in sweep.ladder.after]
    return {"path": list(step.path), "why": step.why, "rules": rules}


def _ended(trial: Mapping[str, Any]) -> VariantOutcome:
    state = trial["state"] if trial["phase"] == "done" else None
    stopping = [v for v in trial["verdicts"] if v["verdict"] == "prune"]
    verdict = stopping[-1] if stopping else None
    return VariantOutcome(state=state, verdict=verdict, cause=trial["cause"])
