"""Add a run that is over to a study, with its curve: an earlier run that a log tells of."""

import dataclasses
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.plan.judge import best
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study import optuna_tables
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.storage import Storage
from pipeline.study.lease import final_values
from pipeline.study.register import META
from pipeline.study.sampler import distribution
from pipeline.study.tables import trials
from pipeline.study.trial_rows import read_board


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """A run that is over.

    Args:
        variant: the study it goes into; one that the sweep file lacks is made.
        params: values at the variant's searched paths.
        state: COMPLETE, PRUNED or FAIL.
        source: which log it is from; `sha256` tells it from others.
        facts: what else is kept with the trial.
    """

    variant: str
    params: Mapping[str, Any]
    history: Sequence[Measurement]
    state: str
    cause: str | None
    reason: str
    source: Mapping[str, Any]
    facts: Mapping[str, Any]


def add_finished(
    sweep: Sweep,
    storage: Storage,
    run: ImportedRun,
    fill: Callable[[int, str], bool],
) -> tuple[str, bool]:
    """Add a finished trial, once; safe to repeat after being cut off at any point.

    Optuna's end and our row are written together; one that is cut off before is ended, as one
    that never began, by whoever draws next.

    Args:
        fill: makes the run directory for the number and uid; False if that number is taken.

    Returns:
        The trial's name, and whether it is new.
    """
    rdb = storage.rdb
    with storage.lock(), translate_errors(storage):
        for row in read_board(sweep.name, storage):
            if (row.facts.get("imported") or {}).get("sha256") == run.source["sha256"]:
                return row.name, False
        study_id, uid = _study(storage, sweep, run.variant), secrets.token_hex(16)
        while True:
            trial_id = rdb.create_new_trial(study_id, _template(sweep, run))
            number = int(rdb.get_trial(trial_id).number)
            if fill(number, uid):
                break
            _fail(storage, trial_id)
        told_why = {"cause": run.cause, "reason": run.reason}
        curve = {m.epoch: m.top1 for m in run.history if m.epoch > 0 and m.finite}
        with storage.engine.begin() as connection:
            optuna_tables.add_values(connection, trial_id, curve)
            values = final_values(run.state, run.history)
            optuna_tables.end(connection, trial_id, run.state, values, told_why)
            row_values = _row(sweep, run, trial_id, number, uid)
            connection.execute(sa.insert(trials).values(**row_values))
    return f"{run.variant}/{number}", True


def _study(storage: Storage, sweep: Sweep, variant: str) -> int:
    """Return the study of a variant; made if the file names no such variant."""
    from optuna.study import StudyDirection

    name = f"{sweep.name}/{variant}"
    known = {s.study_name: s._study_id for s in storage.rdb.get_all_studies()}
    if name in known:
        return int(known[name])
    study_id = int(storage.rdb.create_new_study([StudyDirection.MAXIMIZE], name))
    meta = {"metric": sweep.objective.metric, "imported": True, "history": []}
    storage.rdb.set_study_user_attr(study_id, META, meta)
    return study_id


def _template(sweep: Sweep, run: ImportedRun) -> Any:
    """Return Optuna's trial: RUNNING, so that one cut off here is ended as never begun."""
    from optuna.trial import TrialState, create_trial

    variant = sweep.variants.get(run.variant)
    space = variant.space if variant is not None else {}
    distributions = {path: distribution(space[path]) for path in run.params}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a choice that is a list is said to be no choice
        return create_trial(
            state=TrialState.RUNNING,
            params=dict(run.params),
            distributions=distributions,
            user_attrs={"imported": dict(run.source)},
        )


def _fail(storage: Storage, trial_id: int) -> None:
    """Give up a number whose run directory belongs to another trial."""
    from optuna.trial import TrialState

    storage.rdb.set_trial_user_attr(trial_id, "cause", "taken")
    storage.rdb.set_trial_state_values(trial_id, TrialState.FAIL)


def _row(sweep: Sweep, run: ImportedRun, trial_id: int, number: int, uid: str) -> dict[str, Any]:
    latest, top = run.history[-1], best(run.history)
    return {
        "trial_id": trial_id,
        "uid": uid,
        "sweep": sweep.name,
        "variant": run.variant,
        "number": number,
        "recipe_hash": None,
        "params": dict(run.params),
        "attempt": 0,
        "phase": "done",
        "run_dir": f"runs/{sweep.name}/{run.variant}/{number}",
        "epoch": latest.epoch,
        "last_top1": latest.top1 if latest.finite else None,
        "best_top1": top.top1 if top else None,
        "best_epoch": top.epoch if top else None,
        "lr": latest.lr,
        "seconds": 0.0,
        "ended_at": None,
        "cause": run.cause,
        "reason": run.reason,
        "facts": {**run.facts, "imported": dict(run.source)},
    }
