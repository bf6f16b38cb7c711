"""Which searched values mattered: Optuna's own parameter importances, study by study.

PED-ANOVA: a value matters if the better trials took it from another part of its range than all
trials did. Repetitions on other seeds are left out: they
would count the same values several times.
"""

import warnings
from collections.abc import Sequence
from typing import Any

from pipeline.plan.sweep import Sweep
from pipeline.shared.counted import counted
from pipeline.shared.states import State
from pipeline.study.sampler import distribution
from pipeline.study.trial_rows import TrialRow

#: With fewer complete trials nothing can be said: of ten, the better tenth is one.
MIN_TRIALS = 10


def importances(sweep: Sweep, rows: Sequence[TrialRow]) -> list[dict[str, Any]]:
    """Return for each study with a searched space which values mattered, or why that is unknown.

    Optuna is loaded only where there are enough trials.
    """
    records = []
    for name, variant in sweep.variants.items():
        trials = [r for r in rows if r.variant == name and not r.confirms and not r.superseded]
        if not variant.space or not trials:
            continue
        complete = [r for r in trials if r.state == State.COMPLETE and r.params]
        record: dict[str, Any] = {"variant": name, "trials": len(complete), "values": None}
        if len(complete) >= MIN_TRIALS:
            record["values"] = _evaluate(sweep, name, complete)
        records.append({**record, "sentence": _sentence(record, len(trials))})
    return records


def _evaluate(sweep: Sweep, variant: str, rows: Sequence[TrialRow]) -> dict[str, float] | None:
    """Return each path's share of what made trials good; None if all trials are alike.

    Our rows hold values and results; the study itself, with every epoch, is not loaded.
    """
    import optuna

    space = sweep.variants[variant].space
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        alone = optuna.create_study(direction="maximize")
        for row in rows:
            kinds = {path: distribution(space[path]) for path in row.params if path in space}
            params = {path: row.params[path] for path in kinds}
            try:
                trial = optuna.trial.create_trial(
                    params=params, distributions=kinds, value=row.best_top1
                )
            except ValueError:  # drawn from a space that the file no longer has
                continue
            alone.add_trial(trial)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            shares = optuna.importance.get_param_importances(alone, evaluator=evaluator)
        except (RuntimeError, ValueError):
            return None
    return {path: float(share) for path, share in shares.items()} or None


def _sentence(record: dict[str, Any], run: int) -> str:
    name, count = record["variant"], record["trials"]
    if record["values"] is not None:
        return (
            f"{name}: share of each searched value in what made trials good (PED-ANOVA over "
            f"{count} complete trials of {run})."
        )
    if count < MIN_TRIALS:
        return (
            f"{name}: which values mattered is unknown; it takes {MIN_TRIALS} complete trials, "
            f"and there {'is' if count == 1 else 'are'} {count}."
        )
    return (
        f"{name}: which values mattered is unknown: its "
        f"{counted(count, 'trial is', 'trials are')} too similar."
    )
