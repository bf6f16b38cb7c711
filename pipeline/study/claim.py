"""Claim a trial: exactly one launcher gets it, and keeps it while it lives.

A claim is one transaction: Optuna's trial is set RUNNING and the lease row (who, since when, which
start) is written. Every later write of that owner names its token, so an owner that was only cut
off and has been replaced cannot write another result. Only drawing from a space, which is
Optuna's work, is done under the storage's lock.
"""

import dataclasses
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.plan.sweep import Sweep
from pipeline.study.claim_request import (
    ClaimRequest,
    group_requests,
    kind_filter,
    resumable_filter,
    wanted_rows,
)
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.storage import Storage
from pipeline.study.lease import Lease
from pipeline.study.owner import (
    LEASE_S,
    ProcessIdentity,
    is_dead,
    shown_host,
    this_host,
    this_process,
)
from pipeline.study.sampler import of_search, sample_trial
from pipeline.study.tables import optuna_trials, trials
from pipeline.study.taking import acquire, lease_of, take
from pipeline.study.trial_rows import FINISHED

#: Phases of a trial that was started and has not ended.
BEGUN = ("running", "interrupted", "paused")
#: The columns that say who owns a trial.
_OWNER = ("trial_id", "variant", "token", "host", "boot_id", "pid", "proc_start", "renewed_at")

#: A lease that has run out is taken over if this launcher, too, saw it so long without a change.
TAKEOVER_CONFIRM_S = LEASE_S / 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningElsewhere:
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
    wanted: Sequence[ClaimRequest],
    me: ProcessIdentity | None = None,
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
    with translate_errors(storage):
        for together in group_requests(sweep, wanted):
            with storage.engine.begin() as connection:
                seeking = _ClaimTransaction(sweep, storage, connection, me, skip)
                lease = _started(seeking, together) or _waiting(seeking, together)
            lease = lease or _new(sweep, storage, together[0], me)
            if lease is not None:
                return lease
    return None


def busy(sweep: Sweep, storage: Storage, variants: Sequence[str]) -> list[RunningElsewhere]:
    """Return the trials of these variants that a living owner runs."""
    wanted = [ClaimRequest(variant=name, trials=1, recipe_hash="") for name in variants]
    columns = [trials.c[name] for name in (*_OWNER, "number", "facts")]
    held = trials.c.token.is_not(None) & (optuna_trials.c.state == "RUNNING")
    with translate_errors(storage):
        now = storage.now()
        query = wanted_rows(sweep, wanted, columns).where(held)
        with storage.engine.connect().execution_options(reading=True) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [_busy(row, now) for row in rows if not _may_take(storage, row, now)]


def _busy(row: Mapping[str, Any], now: float) -> RunningElsewhere:
    return RunningElsewhere(
        variant=row["variant"],
        number=row["number"],
        owner=f"{shown_host(row['host'])}, pid {row['pid']}",
        lapsed=is_dead(row, now),
        job=((row["facts"] or {}).get("job") or {}).get("id"),
    )


def _may_take(storage: Storage, row: Mapping[str, Any], now: float) -> bool:
    """Whether a started trial's owner is gone for certain.

    A clock that jumped, or a storage that nobody could reach for a while, makes every lease of
    another host look old. So such a lease is watched first, by a clock that does not jump.
    """
    if not is_dead(row, now):
        return False
    if row["token"] is None or row["host"] == this_host():
        return True
    seen = row["token"], row["renewed_at"]
    since = storage.watched.get(row["trial_id"])
    if since is None or since[0] != seen:
        storage.watched[row["trial_id"]] = seen, time.monotonic()
        return False
    return time.monotonic() - since[1] >= TAKEOVER_CONFIRM_S


def _rows(sweep: Sweep, storage: Storage, variants: Sequence[str]) -> list[Mapping[str, Any]]:
    query = (
        sa.select(trials, optuna_trials.c.state)
        .join_from(trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id)
        .where((trials.c.sweep == sweep.name) & trials.c.variant.in_(variants))
        .order_by(trials.c.number)
    )
    with storage.engine.connect().execution_options(reading=True) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


@dataclasses.dataclass(frozen=True)
class _ClaimTransaction:
    """A claim in its one transaction: what it looks through, for whom."""

    sweep: Sweep
    storage: Storage
    connection: sa.Connection
    me: ProcessIdentity
    skip: Collection[int]


def _started(seeking: _ClaimTransaction, wanted: Sequence[ClaimRequest]) -> Lease | None:
    """Take up a trial whose owner is gone, or that was given back."""
    begun = trials.c.phase.in_(BEGUN) & (optuna_trials.c.state == "RUNNING")
    # Of the trials that other hosts run, only those whose lease has run out are looked at.
    storage, clock = seeking.storage, seeking.storage.clock()
    silent = trials.c.renewed_at < clock - LEASE_S
    begun &= trials.c.token.is_(None) | (trials.c.host == this_host()) | silent
    begun &= kind_filter(wanted) & ((trials.c.phase != "paused") | resumable_filter(wanted))
    columns = [*(trials.c[name] for name in _OWNER), clock.label("now")]
    query = wanted_rows(seeking.sweep, wanted, columns).where(begun)
    for row in [dict(row) for row in seeking.connection.execute(query).mappings()]:
        if row["trial_id"] in seeking.skip or not _may_take(storage, row, row["now"]):
            continue
        seen = trials.c.token.is_not_distinct_from(row["token"])
        seen &= trials.c.renewed_at.is_not_distinct_from(row["renewed_at"])
        lease = _taken(seeking, (trials.c.trial_id == row["trial_id"]) & seen)
        if lease is not None:
            return lease
    return None


def _waiting(seeking: _ClaimTransaction, wanted: Sequence[ClaimRequest]) -> Lease | None:
    """Take the first trial that has not been started."""
    waiting = (trials.c.sweep == seeking.sweep.name) & (trials.c.phase == "waiting")
    query = sa.select(trials.c.variant).where(waiting).distinct()
    names = set(seeking.connection.scalars(query))
    for want in (want for want in wanted if want.variant in names):
        mine = trials.c.recipe_hash.is_(None) | (trials.c.recipe_hash == want.recipe_hash)
        fit = waiting & (trials.c.variant == want.variant) & mine & kind_filter([want])
        lease = _taken(seeking, fit & trials.c.trial_id.not_in(seeking.skip))
        if lease is not None:
            return lease
    return None


def _taken(seeking: _ClaimTransaction, fit: sa.ColumnElement[bool]) -> Lease | None:
    """Take one trial; what others are just taking is passed over."""
    sweep = seeking.sweep
    query = (
        sa.select(trials, optuna_trials.c.state)
        .join_from(trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id)
        .where((trials.c.sweep == sweep.name) & fit & optuna_trials.c.state.not_in(FINISHED))
        .order_by(trials.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)  # SQLite writes one at a time in any case
    )
    row = seeking.connection.execute(query).mappings().first()
    if row is None:
        return None
    return acquire(sweep, seeking.storage, seeking.connection, dict(row), seeking.me)


def _new(sweep: Sweep, storage: Storage, want: ClaimRequest, me: ProcessIdentity) -> Lease | None:
    """Have Optuna draw another trial; one launcher at a time."""
    if not sweep.variants[want.variant].space:
        return None
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock():
        row = _drawn(sweep, storage, want)
        return None if row is None else take(sweep, storage, row, me)


def _drawn(sweep: Sweep, storage: Storage, want: ClaimRequest) -> Mapping[str, Any] | None:
    """Draw another trial of the variant's space, if more are wanted."""
    rows = _rows(sweep, storage, [want.variant])
    mine = [r for r in rows if of_search(r) == (want.search is not None)]
    counted = [r for r in mine if r["cause"] != "superseded" and not _beside(r)]
    if len(counted) >= want.trials or want.confirms:
        return None
    return sample_trial(sweep, storage, want.variant, rows, want.search)


def _beside(row: Mapping[str, Any]) -> bool:
    """Whether a trial was neither planned nor searched: imported, or a repetition."""
    facts = row["facts"] or {}
    return bool(facts.get("imported") or facts.get("confirms"))


def claim_to_prune(
    sweep: Sweep, storage: Storage, trial_id: int, me: ProcessIdentity | None = None
) -> Lease | None:
    """Claim a paused trial only to end it; None if it is not paused any more.

    It is no start, and stays paused if this process is killed before it ends the trial.
    """
    me = me or this_process()
    token = secrets.token_hex(16)
    with storage.lock(), translate_errors(storage):
        rows = {r["trial_id"]: r for r in _rows(sweep, storage, list(sweep.variants))}
        row = rows.get(trial_id)
        if row is None or row["phase"] != "paused" or row["state"] != "RUNNING":
            return None
        if not _may_take(storage, row, storage.now()):
            return None
        owner = {"host": me.host, "boot_id": me.boot_id, "pid": me.pid}
        paused = (trials.c.trial_id == trial_id) & (trials.c.phase == "paused")
        with storage.engine.begin() as connection:
            done = connection.execute(
                sa.update(trials)
                .where(paused)
                .values(token=token, proc_start=me.proc_start, renewed_at=storage.clock(), **owner)
            )
    return lease_of(storage, row, token, int(row["attempt"])) if done.rowcount == 1 else None
