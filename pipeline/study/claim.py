"""Claim a trial: exactly one launcher gets it, and keeps it while it lives.

A claim writes the lease row (who, since when, which start) under the storage's lock. Every later
write of that owner names its token, so an owner that was only cut off and has been replaced
cannot write another result.
"""

import dataclasses
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.plan.sweep import Space, Sweep
from pipeline.study.lease import Lease
from pipeline.study.names import study_name
from pipeline.study.owner import Owner, owner_is_gone, shown_host, this_host, this_process
from pipeline.study.storage import Storage, told
from pipeline.study.table import optuna_trials, trials

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: A lease that has run out is taken over if this launcher, too, saw it so long without a change.
WATCH_S = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A variant to run trials of, and how many its study may have."""

    variant: str
    trials: int
    recipe_hash: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Busy:
    """A wanted trial that another launcher runs.

    Args:
        lapsed: its lease has run out; it can soon be taken up.
        job: the job of a scheduler that its launcher runs in, if it does.
    """

    variant: str
    number: int
    owner: str
    lapsed: bool = False
    job: str | None = None


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
                return take(sweep, storage, row, me, now)
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
                lapsed=owner_is_gone(row, now),
                job=((row["facts"] or {}).get("job") or {}).get("id"),
            )
            for row in _rows(sweep, storage, variants)
            if row["token"] and row["state"] == "RUNNING" and not _may_take(storage, row, now)
        ]


def _may_take(storage: Storage, row: Mapping[str, Any], now: float) -> bool:
    """Whether a started trial's owner is gone for certain.

    A clock that jumped, or a storage that nobody could reach for a while, makes every lease of
    another host look old. So such a lease is watched first, by a clock that does not jump.
    """
    if not owner_is_gone(row, now):
        return False
    if row["token"] is None or row["host"] == this_host():
        return True
    seen = row["token"], row["renewed_at"]
    since = storage.watched.get(row["trial_id"])
    if since is None or since[0] != seen:
        storage.watched[row["trial_id"]] = seen, time.monotonic()
        return False
    return time.monotonic() - since[1] >= WATCH_S


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
    started = [r for r in rows if r["state"] == "RUNNING" and _may_take(storage, r, now)]
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
    _end_unborn(storage, study, {r["trial_id"] for r in rows})
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


def _end_unborn(storage: Storage, study: Any, known: Collection[int]) -> None:
    """End trials that Optuna drew for a launcher killed before it could write its lease.

    We hold the lock that drawing takes, so nobody else is between the two now.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial._trial_id not in known:
            storage.rdb.set_trial_user_attr(trial._trial_id, "cause", "never_begun")
            storage.rdb.set_trial_state_values(trial._trial_id, TrialState.FAIL)


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


def take(sweep: Sweep, storage: Storage, row: Mapping[str, Any], me: Owner, now: float) -> Lease:
    """Set a waiting trial RUNNING, then write the lease row.

    The lease comes last: cut off before it, the trial is nobody's and anyone may claim it.
    """
    token = secrets.token_hex(16)
    attempt = int(row["attempt"]) + 1
    if row["state"] == "WAITING":
        _start_in_optuna(sweep, storage, row)
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

    fixed = row["params"] or {}
    for path, space in sweep.variants[row["variant"]].space.items():
        if path in fixed:
            distribution = _distribution(space)
            value = distribution.to_internal_repr(fixed[path])
            storage.rdb.set_trial_param(row["trial_id"], path, value, distribution)
    storage.rdb.set_trial_state_values(row["trial_id"], TrialState.RUNNING)
