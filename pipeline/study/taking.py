"""Write a claim: Optuna's trial RUNNING and the lease row, in one transaction."""

import secrets
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pipeline.plan.sweep import Sweep
from pipeline.study import optuna_tables
from pipeline.study.db.storage import Storage
from pipeline.study.lease import Lease
from pipeline.study.owner import ProcessIdentity
from pipeline.study.sampler import distribution
from pipeline.study.tables import trials


def take(sweep: Sweep, storage: Storage, row: Mapping[str, Any], me: ProcessIdentity) -> Lease:
    """Set a trial RUNNING and write the lease, in one transaction.

    Args:
        row: the trial's row, with Optuna's `state`.
    """
    with storage.engine.begin() as connection:
        return acquire(sweep, storage, connection, row, me)


def acquire(
    sweep: Sweep,
    storage: Storage,
    connection: sa.Connection,
    row: Mapping[str, Any],
    me: ProcessIdentity,
) -> Lease:
    token = secrets.token_hex(16)
    attempt = int(row["attempt"]) + 1
    if row["state"] == "WAITING":
        optuna_tables.start(connection, row["trial_id"])
        optuna_tables.set_params(connection, row["trial_id"], _recipe_params(sweep, row))
    now = storage.clock()
    connection.execute(
        sa.update(trials)
        .where(trials.c.trial_id == row["trial_id"])
        .values(
            token=token,
            attempt=attempt,
            host=me.host,
            boot_id=me.boot_id,
            pid=me.pid,
            proc_start=me.proc_start,
            renewed_at=now,
            phase="running",
            started_at=now if row["started_at"] is None else row["started_at"],
            cause=None,
            reason=None,
        )
    )
    return lease_of(storage, row, token, attempt)


def lease_of(storage: Storage, row: Mapping[str, Any], token: str, attempt: int) -> Lease:
    return Lease(
        storage=storage,
        trial_id=row["trial_id"],
        variant=row["variant"],
        number=row["number"],
        attempt=attempt,
        token=token,
        params=dict(row["params"] or {}),
        searched=row["recipe_hash"] is None,
        run_dir=row["run_dir"],
        previous=dict(row),
    )


def _recipe_params(sweep: Sweep, row: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Return what a recipe has at the paths of its space, as Optuna stores it."""
    from optuna.distributions import distribution_to_json

    fixed, found = row["params"] or {}, {}
    for path, space in sweep.variants[row["variant"]].space.items():
        if path in fixed:
            kind = distribution(space)
            found[path] = float(kind.to_internal_repr(fixed[path])), distribution_to_json(kind)
    return found
