"""Trials that were not claimed and run here: from logs, from other studies, from run directories.

- `add_finished`: an earlier run that a log describes becomes a finished trial.
- `import_prior`: what other studies measured becomes finished trials of this one. They have no
  run directory and no row of ours, so nothing can ever run them; the sampler learns from their
  values, the stopping rule compares with their curves.
- `recover`: a trial that the storage has lost comes back from what its run directory holds.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.plan.search.space import applicable, holds
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Cause, Phase, State
from pipeline.study import optuna_tables
from pipeline.study.add_trial import FillRunDir, add_trial, fail_in_optuna, insert_row
from pipeline.study.audit import write_meta
from pipeline.study.changed_space import adapt_stored_values
from pipeline.study.claim import take
from pipeline.study.db.storage import Storage
from pipeline.study.lease import Lease, figures, final_values
from pipeline.study.owner import is_dead, this_process
from pipeline.study.sampler import distribution
from pipeline.study.tables import joined_trials, trials
from pipeline.study.trial_curves import read_curves
from pipeline.study.trial_rows import TrialRow, read_board, study_name

#: User attribute of a trial from another study: the trial that was really run.
ORIGIN = "imported_from"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """A run that is over.

    Args:
        variant: the study it goes into; one that the sweep file does not name is made.
        params: values at the variant's searched paths.
        source: which log it is from; `sha256` identifies it.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorTrial:
    """A finished run of another study, with its values of the searched paths."""

    row: TrialRow
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoveredTrial:
    """A trial as its run directory describes it.

    Args:
        uid: differs from that of a trial of the same name in another storage.
        recipe_hash: None for a searched trial.
        attempt: how often it was started.
    """

    variant: str
    number: int
    uid: str
    recipe_hash: str | None
    params: Mapping[str, Any]
    attempt: int


class NumberTaken(Exception):
    """The storage has another trial of this name that was run, or that is being run."""


def add_finished(
    sweep: Sweep, storage: Storage, run: ImportedRun, fill: FillRunDir
) -> tuple[str, bool]:
    """Add a finished trial, once; safe to repeat after being cut off at any point.

    Optuna's end and our row are written together.

    Args:
        fill: makes the run directory.

    Returns:
        The trial's name, and whether it is new.
    """
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock():
        for row in read_board(sweep.name, storage):
            if (row.facts.get("imported") or {}).get("sha256") == run.source["sha256"]:
                return row.name, False
        _make_study(sweep, storage, run.variant)
        template = _template(sweep, run)
        study_id = storage.rdb.get_study_id_from_name(study_name(sweep, run.variant))
        adapt_stored_values(storage, study_id, template.distributions)
        added = add_trial(
            sweep,
            storage,
            run.variant,
            template,
            fill=fill,
            complete=functools.partial(_end, sweep, run),
            recipe_hash=None,
            params=run.params,
            phase=Phase.DONE,
            cause=run.cause,
            reason=run.reason,
            facts={**run.facts, "imported": dict(run.source)},
            **figures(run.history),
        )
    return f"{run.variant}/{added['number']}", True


def _end(
    sweep: Sweep, run: ImportedRun, connection: sa.Connection, trial_id: int, number: int
) -> dict[str, Any]:
    """Write a run's values and end into Optuna's tables; return what our row has beside them."""
    curve = {m.epoch: m.top1 for m in run.history if m.epoch > 0 and m.finite}
    optuna_tables.add_values(connection, trial_id, curve)
    values = final_values(run.state, run.history)
    attributes = {"cause": run.cause, "reason": run.reason}
    optuna_tables.end(connection, trial_id, run.state, values, attributes)
    return {"run_dir": f"runs/{sweep.name}/{run.variant}/{number}"}


def _make_study(sweep: Sweep, storage: Storage, variant: str) -> None:
    """Make the study of a variant that the sweep file does not name, if it is missing."""
    from optuna.study import StudyDirection

    name = study_name(sweep, variant)
    if name in {study.study_name for study in storage.rdb.get_all_studies()}:
        return
    study_id = int(storage.rdb.create_new_study([StudyDirection.MAXIMIZE], name))
    meta = {"metric": sweep.objective.metric, "imported": True, "history": []}
    write_meta(storage, study_id, meta)


def _template(sweep: Sweep, run: ImportedRun) -> Any:
    """Return Optuna's trial: RUNNING, so that one cut off here is ended as never begun."""
    from optuna.trial import TrialState, create_trial

    variant = sweep.variants.get(run.variant)
    space = variant.space if variant is not None else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of a choice that is a list
        return create_trial(
            state=TrialState.RUNNING,
            params=dict(run.params),
            distributions={path: distribution(space[path]) for path in run.params},
            user_attrs={"imported": dict(run.source)},
        )


def outside_space(sweep: Sweep, variant: str, values: Mapping[str, Any]) -> str | None:
    """Return which value the variant's space does not hold, None if it holds them all."""
    for path, value in values.items():
        if not holds(sweep.variants[variant].space[path], value):
            return f"{path} = {value} is outside the searched range"
    return None


def import_prior(
    sweep: Sweep, storage: Storage, variant: str, prior: Sequence[PriorTrial]
) -> list[str]:
    """Add finished runs of other studies to a variant's study, each once.

    Returns:
        The names of those that were added now.
    """
    from optuna.trial import TrialState, create_trial

    rdb, space = storage.rdb, sweep.variants[variant].space
    added = []
    with storage.lock():
        study_id = rdb.get_study_id_from_name(study_name(sweep, variant))
        adapt_stored_values(storage, study_id, {p: distribution(s) for p, s in space.items()})
        there = {t.user_attrs.get(ORIGIN) for t in rdb.get_all_trials(study_id, deepcopy=False)}
        for one in prior:
            if one.row.name in there:
                continue
            curve = read_curves(study_name(sweep, one.row.variant), storage)
            values = applicable(space, one.values)
            state = TrialState[one.row.state]
            template = create_trial(
                state=state,
                value=one.row.best_top1 if state is TrialState.COMPLETE else None,
                params=values,
                distributions={path: distribution(space[path]) for path in values},
                user_attrs={ORIGIN: one.row.name},
                intermediate_values=_finite(curve.get(one.row.trial_id, {})),
            )
            rdb.create_new_trial(study_id, template)
            added.append(one.row.name)
    return added


def _finite(curve: Mapping[int, float]) -> dict[int, float]:
    return {epoch: value for epoch, value in curve.items() if math.isfinite(value)}


def recover(sweep: Sweep, storage: Storage, lost: RecoveredTrial) -> Lease | None:
    """Put a lost trial into the storage, and claim it.

    Returns:
        The lease to report and to end it with; None if it has ended in the storage already.

    Raises:
        NumberTaken: with the reason.
    """
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock():
        if not _stored(sweep, storage, lost):
            _fill_up_to(sweep, storage, lost)
        (row,) = _stored(sweep, storage, lost)
        if row["uid"] != lost.uid:
            if _was_run(row) or _is_held(row, storage):
                raise NumberTaken("the storage has run another trial of this name")
            _replace(storage, row, lost)
        elif State(row["state"]).finished:
            return None
        elif _is_held(row, storage):
            raise NumberTaken("it is being run")
        (row,) = _stored(sweep, storage, lost)
        return take(sweep, storage, row, this_process())


def _was_run(row: Mapping[str, Any]) -> bool:
    """Whether a start of this trial got as far as a run directory of its own."""
    return row["attempt"] > 0 and row["run_dir"] is not None


def _is_held(row: Mapping[str, Any], storage: Storage) -> bool:
    return bool(row["token"]) and not is_dead(row, storage.now())


def _stored(sweep: Sweep, storage: Storage, lost: RecoveredTrial) -> list[dict[str, Any]]:
    """Return the row of this name, if there is one."""
    query = joined_trials(sweep.name).where(
        (trials.c.variant == lost.variant) & (trials.c.number == lost.number)
    )
    return storage.select(query)


def _fill_up_to(sweep: Sweep, storage: Storage, lost: RecoveredTrial) -> None:
    """Make Optuna's trials up to this number and its row; unknown ones before it are failed."""
    from optuna.trial import TrialState, create_trial

    rdb = storage.rdb
    study_id = rdb.get_study_id_from_name(study_name(sweep, lost.variant))
    while True:
        trial_id = int(rdb.create_new_trial(study_id, create_trial(state=TrialState.WAITING)))
        number = int(rdb.get_trial(trial_id).number)
        if number >= lost.number:
            break
        fail_in_optuna(storage, trial_id, cause=Cause.NO_RUN_DIRECTORY)
    with storage.transaction() as connection:
        insert_row(connection, sweep, lost.variant, trial_id, number, **_columns(lost))


def _replace(storage: Storage, row: Mapping[str, Any], lost: RecoveredTrial) -> None:
    """Give the row of a trial that was never run to the lost one of the same name.

    A launch may have claimed it, and was refused by the run directory that is there.
    """
    with storage.transaction() as connection:
        this = trials.c.trial_id == row["trial_id"]
        connection.execute(sa.update(trials).where(this).values(**_columns(lost)))


def _columns(lost: RecoveredTrial) -> dict[str, Any]:
    return {
        "uid": lost.uid,
        "recipe_hash": lost.recipe_hash,
        "params": dict(lost.params),
        "attempt": max(0, lost.attempt - 1),  # claiming it counts as a start
        "phase": Phase.WAITING,
        "cause": None,
        "reason": None,
    }
