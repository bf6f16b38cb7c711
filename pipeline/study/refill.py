"""Put trials back into a storage that has lost them, from what their run directories tell."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pipeline.plan.sweep import Sweep
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.storage import Storage
from pipeline.study.lease import Lease
from pipeline.study.names import study_name
from pipeline.study.owner import is_dead, this_process
from pipeline.study.tables import optuna_trials, trials
from pipeline.study.taking import take


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoveredTrial:
    """A trial as its run directory knows it.

    Args:
        uid: tells it from one of the same name in another storage.
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


def adopt(sweep: Sweep, storage: Storage, lost: RecoveredTrial) -> Lease | None:
    """Make the storage know a trial, and claim it.

    Returns:
        The lease to report and to end it with; None if it has ended in the storage already.

    Raises:
        Occupied: with the reason.
    """
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock(), translate_errors(storage):
        row = _row(sweep, storage, lost)
        if row is None:
            _fill_up_to(sweep, storage, lost)
            row = _row(sweep, storage, lost)
        assert row is not None
        if row["uid"] != lost.uid:
            if row["attempt"] > 0:
                raise NumberTaken("the storage has run another trial of this name")
            _take_name(storage, row, lost)
        elif row["state"] in ("COMPLETE", "PRUNED", "FAIL"):
            return None
        elif row["token"] and not is_dead(row, storage.now()):
            raise NumberTaken("it is being run")
        row = _row(sweep, storage, lost)
        assert row is not None
        return take(sweep, storage, row, this_process())


def _row(sweep: Sweep, storage: Storage, lost: RecoveredTrial) -> dict[str, Any] | None:
    query = (
        sa.select(trials, optuna_trials.c.state)
        .join_from(trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id)
        .where((trials.c.sweep == sweep.name) & (trials.c.variant == lost.variant))
        .where(trials.c.number == lost.number)
    )
    with storage.engine.connect().execution_options(reading=True) as connection:
        found = connection.execute(query).mappings().first()
    return dict(found) if found is not None else None


def _fill_up_to(sweep: Sweep, storage: Storage, lost: RecoveredTrial) -> None:
    """Make Optuna's trials up to this number; those before it that nobody knows have failed."""
    from optuna.trial import TrialState, create_trial

    rdb = storage.rdb
    study_id = rdb.get_study_id_from_name(study_name(sweep, lost.variant))
    while True:
        trial_id = rdb.create_new_trial(study_id, create_trial(state=TrialState.WAITING))
        number = rdb.get_trial(trial_id).number
        if number >= lost.number:
            break
        rdb.set_trial_user_attr(trial_id, "cause", "no_run_directory")
        rdb.set_trial_state_values(trial_id, TrialState.FAIL)
    with storage.engine.begin() as connection:
        connection.execute(
            sa.insert(trials).values(
                trial_id=trial_id,
                sweep=sweep.name,
                variant=lost.variant,
                number=number,
                **_facts(lost),
            )
        )


def _take_name(storage: Storage, row: Mapping[str, Any], lost: RecoveredTrial) -> None:
    with storage.engine.begin() as connection:
        mine = trials.c.trial_id == row["trial_id"]
        connection.execute(sa.update(trials).where(mine).values(**_facts(lost)))


def _facts(lost: RecoveredTrial) -> dict[str, Any]:
    return {
        "uid": lost.uid,
        "recipe_hash": lost.recipe_hash,
        "params": dict(lost.params),
        "attempt": max(0, lost.attempt - 1),  # taking it counts as a start
        "phase": "waiting",
        "cause": None,
        "reason": None,
    }
