"""Claim a trial: exactly one launcher gets it, and keeps it while it lives.

A claim writes the lease row (who, since when, which start) under the storage's lock. Every later
write of that owner names its token, so an owner that was only cut off and has been replaced
cannot write another result.
"""

import dataclasses
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.plan.sweep import Space, Sweep
from pipeline.study.lease import Lease
from pipeline.study.names import study_name
from pipeline.study.owner import Owner, owner_is_gone, shown_host, this_process
from pipeline.study.storage import Storage, told
from pipeline.study.table import optuna_trials, trials

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A variant to run trials of, and how many its study may have."""

    variant: str
    trials: int
    recipe_hash: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Busy:
    """A wanted trial that another launcher runs."""

    variant: str
    number: int
    owner: str


def claim(
    sweep: Sweep,
    storage: Storage,
    wanted: Sequence[Wanted],
    me: Owner | None = None,
    skip: Collection[int] = (),
) -> Lease | None:
    """Claim the first trial that can be run, in the order of `wanted`.

    Within a variant a trial whose owner is gone or that was interrupted comes first, then its
    recipe, then newly drawn ones.

    Args:
        skip: ids of trials to leave alone, such as those this launcher has just given back.

    Returns:
        The lease, or None when every wanted trial is finished or run by somebody.
    """
    me = me or this_process()
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock(), told(storage):
        now = storage.now()
        for want in wanted:
            row = _claimable(sweep, storage, want, now, skip)
            if row is None:
                row = _drawn(sweep, storage, want)
            if row is not None:
                return _take(sweep, storage, row, me, now)
    return None


def busy(sweep: Sweep, storage: Storage, variants: Sequence[str]) -> list[Busy]:
    """Return the trials of these variants that a living owner runs."""
    with told(storage):
        now = storage.now()
        return [
            Busy(
                variant=row["variant"],
                number=row["number"],
                owner=f"{shown_host(row['host'])}, pid {row['pid']}",
            )
            for row in _rows(sweep, storage, variants)
            if row["token"] and row["state"] == "RUNNING" and not owner_is_gone(row, now)
        ]


def _rows(sweep: Sweep, storage: Storage, variants: Sequence[str]) -> list[Mapping[str, Any]]:
    query = (
        sa.select(trials, optuna_trials.c.state)
        .join_from(trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id)
        .where((trials.c.sweep == sweep.name) & trials.c.variant.in_(variants))
        .order_by(trials.c.number)
    )
    with storage.engine.connect().execution_options(reading=True) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _claimable(
    sweep: Sweep, storage: Storage, want: Wanted, now: float, skip: Collection[int]
) -> Mapping[str, Any] | None:
    rows = [r for r in _rows(sweep, storage, [want.variant]) if r["trial_id"] not in skip]
    started = [r for r in rows if r["state"] == "RUNNING" and owner_is_gone(r, now)]
    waiting = [
        r for r in rows if r["state"] == "WAITING" and r["recipe_hash"] in (None, want.recipe_hash)
    ]
    return next(iter([*started, *waiting]), None)


def _drawn(sweep: Sweep, storage: Storage, want: Wanted) -> Mapping[str, Any] | None:
    """Ask Optuna for another trial of the variant's space, if more are wanted."""
    import optuna

    rows = _rows(sweep, storage, [want.variant])
    space = sweep.variants[want.variant].space
    counted = [r for r in rows if r["cause"] != "superseded"]
    if len(counted) >= want.trials or not space:
        return None
    sampler = optuna.samplers.TPESampler(constant_liar=True)
    study = optuna.load_study(
        study_name=study_name(sweep, want.variant), storage=storage.rdb, sampler=sampler
    )
    trial = study.ask()
    params = {path: _suggest(trial, path, s) for path, s in space.items()}
    row = {
        "trial_id": trial._trial_id,
        "uid": secrets.token_hex(16),
        "sweep": sweep.name,
        "variant": want.variant,
        "number": trial.number,
        "recipe_hash": None,
        "params": params,
        "phase": "waiting",
        "attempt": 0,
        "epoch": 0,
        "seconds": 0.0,
    }
    with storage.engine.begin() as connection:
        connection.execute(sa.insert(trials).values(**row))
    return {**row, "state": "RUNNING", "run_dir": None, "started_at": None}


def _suggest(trial: Any, path: str, space: Space) -> Any:
    if space.choices is not None:
        return trial.suggest_categorical(path, list(space.choices))
    return trial.suggest_float(path, space.low, space.high, log=space.log, step=space.step)


def _distribution(space: Space) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if space.choices is not None:
        return CategoricalDistribution(space.choices)
    assert space.low is not None and space.high is not None
    return FloatDistribution(space.low, space.high, log=space.log, step=space.step)


def _take(sweep: Sweep, storage: Storage, row: Mapping[str, Any], me: Owner, now: float) -> Lease:
    """Write the lease row and, for a waiting trial, Optuna's RUNNING."""
    token = secrets.token_hex(16)
    attempt = int(row["attempt"]) + 1
    with storage.engine.begin() as connection:
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
                started_at=row["started_at"] or now,
                cause=None,
                reason=None,
            )
        )
    if row["state"] == "WAITING":
        _start_in_optuna(sweep, storage, row)
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


def _start_in_optuna(sweep: Sweep, storage: Storage, row: Mapping[str, Any]) -> None:
    """Set a waiting trial RUNNING and record the recipe's values as its parameters."""
    from optuna.trial import TrialState

    storage.rdb.set_trial_state_values(row["trial_id"], TrialState.RUNNING)
    fixed = row["params"] or {}
    for path, space in sweep.variants[row["variant"]].space.items():
        if path in fixed:
            distribution = _distribution(space)
            value = distribution.to_internal_repr(fixed[path])
            storage.rdb.set_trial_param(row["trial_id"], path, value, distribution)
