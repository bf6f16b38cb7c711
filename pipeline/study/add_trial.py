"""Add a trial to a study: in Optuna, as a run directory and as a row of ours, or not at all.

A process that is killed before our row is written leaves a trial that only Optuna knows. Made
RUNNING, it is ended by the next launcher that draws (`sampler`); made WAITING, it may only be one
that is completed by repeating the call (`register`).
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.errors import InputError
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Cause, Kind, Phase
from pipeline.study.audit import read_meta
from pipeline.study.db.storage import Storage
from pipeline.study.lease import figures
from pipeline.study.tables import trials
from pipeline.study.trial_rows import TrialRow, read_board, study_name

#: Makes the run directory for a number and a uid; False if another trial's is there.
FillRunDir = Callable[[int, str], bool | None]
#: Writes what else belongs to a trial, by its id and number, in the transaction that inserts its
#: row; returns more columns of the row.
Complete = Callable[[sa.Connection, int, int], Mapping[str, Any]]


def add_trial(
    sweep: Sweep,
    storage: Storage,
    variant: str,
    template: Any,
    *,
    fill: FillRunDir | None = None,
    complete: Complete | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """Add a trial; the storage's lock is held.

    Args:
        template: Optuna's trial.
        fill: called before the row exists, so before any launcher can claim the trial.
        columns: as in `insert_row`.

    Returns:
        The new row.
    """
    rdb = storage.rdb
    study_id = rdb.get_study_id_from_name(study_name(sweep, variant))
    while True:
        trial_id = int(rdb.create_new_trial(study_id, template))
        number, uid = int(rdb.get_trial(trial_id).number), secrets.token_hex(16)
        try:
            if fill is None or fill(number, uid) is not False:
                break
        except BaseException:  # else the half-made trial would stay, to be run or drawn from
            fail_in_optuna(storage, trial_id)
            raise
        fail_in_optuna(storage, trial_id, cause=Cause.TAKEN)
    with storage.transaction() as connection:
        if complete is not None:
            columns |= complete(connection, trial_id, number)
        return insert_row(connection, sweep, variant, trial_id, number, uid=uid, **columns)


def insert_row(
    connection: sa.Connection,
    sweep: Sweep,
    variant: str,
    trial_id: int,
    number: int,
    *,
    recipe_hash: str | None,
    params: Mapping[str, Any],
    uid: str | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """Insert the row of a trial that Optuna knows already.

    Args:
        recipe_hash: None unless the trial is the plan's own recipe, as the ladder takes it.
        params: values of the searched paths.
        columns: those that differ from a trial that waits and has never been started.

    Returns:
        The row.
    """
    row = {
        "trial_id": trial_id,
        "uid": uid or secrets.token_hex(16),
        "sweep": sweep.name,
        "variant": variant,
        "number": number,
        "recipe_hash": recipe_hash,
        "params": dict(params),
        "phase": Phase.WAITING,
        "attempt": 0,
        "epoch": 0,
        "seconds": 0.0,
        **columns,
    }
    connection.execute(sa.insert(trials).values(**row))
    return row


def fail_in_optuna(storage: Storage, trial_id: int, cause: str | None = None) -> None:
    """End a trial that will not be run, in Optuna alone."""
    from optuna.trial import TrialState

    if cause is not None:
        storage.rdb.set_trial_user_attr(trial_id, "cause", cause)
    storage.rdb.set_trial_state_values(trial_id, TrialState.FAIL)


def add_repetition(
    sweep: Sweep,
    storage: Storage,
    row: TrialRow,
    seed: int,
    signed: Mapping[str, str],
    fill: FillRunDir,
) -> int:
    """Add a trial that repeats a finished one on another seed.

    It is RUNNING in Optuna from the start, though no job runs it: a WAITING one would be handed
    out to the next search that asks for values.

    Args:
        signed: who asked for it, and when.
        fill: makes the run directory.

    Returns:
        The new trial's number.
    """
    facts = {"confirms": row.name, "seed": seed}
    template = _repetition(storage, row, {**facts, "asked": dict(signed)})
    with storage.lock():
        added = add_trial(
            sweep,
            storage,
            row.variant,
            template,
            fill=fill,
            recipe_hash=None,
            params=row.params,
            facts=facts,
        )
    return int(added["number"])


def _repetition(storage: Storage, row: TrialRow, attributes: Mapping[str, Any]) -> Any:
    """Return Optuna's new trial, with the values that the first one has there."""
    from optuna.trial import TrialState, create_trial

    first = storage.rdb.get_trial(row.trial_id)
    return create_trial(
        state=TrialState.RUNNING,
        params=dict(first.params),
        distributions=dict(first.distributions),
        user_attrs=dict(attributes),
    )


def add_continuation(
    sweep: Sweep,
    storage: Storage,
    row: TrialRow,
    history: Sequence[Measurement],
    decision: Mapping[str, Any],
    fill: FillRunDir,
) -> int:
    """Add a trial that goes on where a finished one ended.

    Optuna cannot reopen a finished trial, and should not: its record stays.

    Args:
        history: the epochs that the new trial begins with.
        decision: who decided it and what is overruled; kept with the trial.
        fill: makes the run directory.

    Returns:
        The new trial's number.

    Raises:
        InputError: the sweep file has another recipe now, or the trial was continued already.
    """
    search = {"search": row.facts["search"]} if row.kind is Kind.SEARCH else {}
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock():
        _check_continuable(sweep, storage, row)
        added = add_trial(
            sweep,
            storage,
            row.variant,
            _continuation(row, history, decision),
            fill=fill,
            recipe_hash=row.recipe_hash,
            params=row.params,
            facts={"continues": row.name, **search},
            **{**figures(history), "lr": None},
        )
    return int(added["number"])


def _continuation(
    row: TrialRow, history: Sequence[Measurement], decision: Mapping[str, Any]
) -> Any:
    """Return Optuna's new trial, with the values of the epochs it begins with."""
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": dict(row.params)},
        user_attrs={"recipe_hash": row.recipe_hash, "continues": row.name, **decision},
        intermediate_values={m.epoch: m.top1 for m in history if m.epoch > 0 and m.finite},
    )


def _check_continuable(sweep: Sweep, storage: Storage, row: TrialRow) -> None:
    study_id = storage.rdb.get_study_id_from_name(study_name(sweep, row.variant))
    if row.recipe_hash not in (None, read_meta(storage, study_id).get("recipe_hash")):
        raise InputError(
            f"{row.name} ran another recipe than {sweep.shown_path} has for {row.variant} now. "
            "Change the recipe back to go on with it, or run the new one: pcan sweep launch "
            f"{sweep.name}"
        )
    for other in read_board(sweep.name, storage):
        if other.continues == row.name and not other.superseded:
            raise InputError(
                f"{row.name} is continued as {other.name} already. Run it: pcan sweep launch "
                f"{sweep.name}"
            )
