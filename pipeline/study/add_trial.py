"""Repeat a finished trial on another seed: a trial of the same study that names the first."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from pipeline.plan.sweep import Sweep
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.storage import Storage
from pipeline.study.names import study_name
from pipeline.study.tables import trials
from pipeline.study.trial_rows import TrialRow


def enqueue_repetition(
    sweep: Sweep,
    storage: Storage,
    row: TrialRow,
    seed: int,
    signed: Mapping[str, str],
    fill: Callable[[int, str], None],
) -> int:
    """Add a trial that repeats a finished one.

    It is RUNNING in Optuna at once, though nobody runs it: a WAITING one would be handed out to
    the next search that asks for values. Cut off before our row is written, it is ended as one
    that never began.

    Args:
        signed: who asked for it.
        fill: makes the run directory for the new number and uid, before any launcher can claim.

    Returns:
        The new trial's number.
    """
    rdb = storage.rdb
    facts = {"confirms": row.name, "seed": seed}
    with storage.lock(), translate_errors(storage):
        study_id = rdb.get_study_id_from_name(study_name(sweep, row.variant))
        template = _template(storage, row, {**facts, "asked": dict(signed)})
        trial_id = rdb.create_new_trial(study_id, template)
        number, uid = int(rdb.get_trial(trial_id).number), secrets.token_hex(16)
        try:
            fill(number, uid)
        except BaseException:  # else a half-made trial would stay on record as running
            rdb.set_trial_state_values(trial_id, _failed())
            raise
        with storage.engine.begin() as connection:
            connection.execute(
                sa.insert(trials).values(
                    trial_id=trial_id,
                    uid=uid,
                    sweep=sweep.name,
                    variant=row.variant,
                    number=number,
                    recipe_hash=None,  # the ladder must not take it for the plan's own
                    params=dict(row.params),
                    phase="waiting",
                    attempt=0,
                    epoch=0,
                    seconds=0.0,
                    facts=facts,
                )
            )
    return number


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _template(storage: Storage, row: TrialRow, attrs: Mapping[str, Any]) -> Any:
    """Return Optuna's new trial, with the values that the first one has there."""
    from optuna.trial import TrialState, create_trial

    first = storage.rdb.get_trial(row.trial_id)
    return create_trial(
        state=TrialState.RUNNING,
        params=dict(first.params),
        distributions=dict(first.distributions),
        user_attrs=dict(attrs),
    )
