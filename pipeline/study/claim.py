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
from pipeline.shared.states import Cause, Kind, Phase, State
from pipeline.study import optuna_tables
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
from pipeline.study.sampler import SamplerOptions, distribution, sample_trial
from pipeline.study.tables import FINISHED, joined_trials, optuna_trials, trials
from pipeline.study.trial_rows import BESIDE, kind_of

#: Phases of a trial that was started and has not ended.
BEGUN = (Phase.RUNNING, Phase.INTERRUPTED, Phase.PAUSED)
#: The columns that say who owns a trial.
_OWNER = ("trial_id", "variant", "token", "host", "boot_id", "pid", "proc_start", "renewed_at")

#: A lease that has run out is taken over if this launcher, too, saw it so long without a change.
TAKEOVER_CONFIRM_S = LEASE_S / 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimRequest:
    """A variant to run trials of, and how many its study may have.

    Args:
        confirms: run the repetitions of these trials on other seeds, and nothing else.
        search: run trials of a search, and nothing else; without it, anything but those.
    """

    variant: str
    trials: int
    recipe_hash: str
    confirms: tuple[str, ...] = ()
    search: SamplerOptions | None = None

    def has(self, confirms: str | None) -> bool:
        """Return whether a trial is of the requested kind, by the trial it confirms."""
        return confirms in self.confirms if self.confirms else not confirms


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningElsewhere:
    """A requested trial that another launcher runs.

    Args:
        lapsed: its lease has run out; it can soon be taken over.
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
    requests: Sequence[ClaimRequest],
    me: ProcessIdentity | None = None,
    skip: Collection[int] = (),
) -> Lease | None:
    """Claim the first trial that can be run, in the order of the requests.

    Within a variant a trial whose owner is gone or that was interrupted comes first, then its
    recipe, then newly drawn ones.

    Args:
        skip: ids of trials to leave alone, such as those this launcher has just given back.

    Returns:
        The lease, or None when every requested trial is finished or run elsewhere.
    """
    me = me or this_process()
    for group in _group_requests(sweep, requests):
        with storage.transaction() as connection:
            claiming = _ClaimTransaction(sweep, storage, connection, me, skip)
            lease = _resume(claiming, group) or _start_waiting(claiming, group)
        lease = lease or _draw(sweep, storage, group[0], me)
        if lease is not None:
            return lease
    return None


def busy(sweep: Sweep, storage: Storage, variants: Sequence[str]) -> list[RunningElsewhere]:
    """Return the trials of these variants that a living owner runs."""
    requests = [ClaimRequest(variant=name, trials=1, recipe_hash="") for name in variants]
    columns = [trials.c[name] for name in (*_OWNER, "number", "facts")]
    held = trials.c.token.is_not(None) & (optuna_trials.c.state == State.RUNNING)
    now = storage.now()
    rows = storage.select(_requested_rows(sweep, requests, columns).where(held))
    return [_running_elsewhere(row, now) for row in rows if not _may_take(storage, row, now)]


def _running_elsewhere(row: Mapping[str, Any], now: float) -> RunningElsewhere:
    return RunningElsewhere(
        variant=row["variant"],
        number=row["number"],
        owner=f"{shown_host(row['host'])}, pid {row['pid']}",
        lapsed=is_dead(row, now),
        job=((row["facts"] or {}).get("job") or {}).get("id"),
    )


def _may_take(storage: Storage, row: Mapping[str, Any], now: float) -> bool:
    """Return whether a started trial's owner is gone for certain.

    A clock that jumped, or a storage that was unreachable for a while, makes every lease of
    another host look old. So such a lease is watched first, by a clock that does not jump.
    """
    if not is_dead(row, now):
        return False
    if row["token"] is None or row["host"] == this_host():
        return True
    lease = row["token"], row["renewed_at"]
    watched = storage.watched.get(row["trial_id"])
    if watched is None or watched[0] != lease:
        storage.watched[row["trial_id"]] = lease, time.monotonic()
        return False
    return time.monotonic() - watched[1] >= TAKEOVER_CONFIRM_S


@dataclasses.dataclass(frozen=True)
class _ClaimTransaction:
    sweep: Sweep
    storage: Storage
    connection: sa.Connection
    me: ProcessIdentity
    skip: Collection[int]


def _resume(claiming: _ClaimTransaction, requests: Sequence[ClaimRequest]) -> Lease | None:
    """Claim a trial whose owner is gone, or that was released unfinished."""
    begun = trials.c.phase.in_(BEGUN) & (optuna_trials.c.state == State.RUNNING)
    # Of the trials that other hosts run, only those whose lease has run out are looked at.
    storage, clock = claiming.storage, claiming.storage.clock()
    silent = trials.c.renewed_at < clock - LEASE_S
    begun &= trials.c.token.is_(None) | (trials.c.host == this_host()) | silent
    begun &= _kind_filter(requests)
    begun &= (trials.c.phase != Phase.PAUSED) | _resumable_filter(requests)
    columns = [*(trials.c[name] for name in _OWNER), clock.label("now")]
    query = _requested_rows(claiming.sweep, requests, columns).where(begun)
    for row in [dict(row) for row in claiming.connection.execute(query).mappings()]:
        if row["trial_id"] in claiming.skip or not _may_take(storage, row, row["now"]):
            continue
        unchanged = trials.c.token.is_not_distinct_from(row["token"])
        unchanged &= trials.c.renewed_at.is_not_distinct_from(row["renewed_at"])
        lease = _claim_first(claiming, (trials.c.trial_id == row["trial_id"]) & unchanged)
        if lease is not None:
            return lease
    return None


def _start_waiting(claiming: _ClaimTransaction, requests: Sequence[ClaimRequest]) -> Lease | None:
    """Claim the first trial that has not been started."""
    waiting = (trials.c.sweep == claiming.sweep.name) & (trials.c.phase == Phase.WAITING)
    query = sa.select(trials.c.variant).where(waiting).distinct()
    names = set(claiming.connection.scalars(query))
    for request in (one for one in requests if one.variant in names):
        same = trials.c.recipe_hash.is_(None) | (trials.c.recipe_hash == request.recipe_hash)
        fit = waiting & (trials.c.variant == request.variant) & same & _kind_filter([request])
        lease = _claim_first(claiming, fit & trials.c.trial_id.not_in(claiming.skip))
        if lease is not None:
            return lease
    return None


def _claim_first(claiming: _ClaimTransaction, fit: sa.ColumnElement[bool]) -> Lease | None:
    """Claim one trial; those that other launchers are just claiming are passed over."""
    query = (
        joined_trials(claiming.sweep.name)
        .where(fit & optuna_trials.c.state.not_in(FINISHED))
        .limit(1)
        .with_for_update(skip_locked=True)  # SQLite writes one at a time in any case
    )
    row = claiming.connection.execute(query).mappings().first()
    if row is None:
        return None
    return _acquire(claiming.sweep, claiming.storage, claiming.connection, dict(row), claiming.me)


def _draw(
    sweep: Sweep, storage: Storage, request: ClaimRequest, me: ProcessIdentity
) -> Lease | None:
    """Have Optuna draw another trial, if more are requested; one launcher at a time."""
    if request.confirms or not sweep.variants[request.variant].space:
        return None
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock():
        query = joined_trials(sweep.name).where(trials.c.variant == request.variant)
        rows = storage.select(query)
        if sum(_counts(row, request) for row in rows) >= request.trials:
            return None
        row = sample_trial(sweep, storage, request.variant, rows, request.search)
        return take(sweep, storage, row, me)


def _counts(row: Mapping[str, Any], request: ClaimRequest) -> bool:
    """Return whether a trial is one of the number that a request asks for."""
    kind = kind_of(row["facts"], row["recipe_hash"])
    if row["cause"] == Cause.SUPERSEDED or kind in BESIDE:
        return False
    return (kind is Kind.SEARCH) == (request.search is not None)


def take(sweep: Sweep, storage: Storage, row: Mapping[str, Any], me: ProcessIdentity) -> Lease:
    """Claim this trial, in a transaction of its own.

    Args:
        row: the trial's row, with Optuna's `state`.
    """
    with storage.transaction() as connection:
        return _acquire(sweep, storage, connection, row, me)


def _acquire(
    sweep: Sweep,
    storage: Storage,
    connection: sa.Connection,
    row: Mapping[str, Any],
    me: ProcessIdentity,
) -> Lease:
    """Set a trial RUNNING in Optuna and write its lease."""
    token = secrets.token_hex(16)
    attempt = int(row["attempt"]) + 1
    if row["state"] == State.WAITING:
        optuna_tables.start(connection, row["trial_id"])
        optuna_tables.set_params(connection, row["trial_id"], _recipe_params(sweep, row))
    now = storage.clock()
    connection.execute(
        sa.update(trials)
        .where(trials.c.trial_id == row["trial_id"])
        .values(
            token=token,
            attempt=attempt,
            renewed_at=now,
            phase=Phase.RUNNING,
            started_at=now if row["started_at"] is None else row["started_at"],
            cause=None,
            reason=None,
            **dataclasses.asdict(me),
        )
    )
    return _lease_of(storage, row, token, attempt)


def _lease_of(storage: Storage, row: Mapping[str, Any], token: str, attempt: int) -> Lease:
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

    fixed, stored = row["params"] or {}, {}
    for path, space in sweep.variants[row["variant"]].space.items():
        if path in fixed:
            kind = distribution(space)
            stored[path] = float(kind.to_internal_repr(fixed[path])), distribution_to_json(kind)
    return stored


def claim_to_prune(
    sweep: Sweep, storage: Storage, trial_id: int, me: ProcessIdentity | None = None
) -> Lease | None:
    """Claim a paused trial only to end it; None if it is no longer paused.

    It does not count as a start, and the trial stays paused if this process is killed before it
    ends the trial.
    """
    me = me or this_process()
    token = secrets.token_hex(16)
    paused = (trials.c.trial_id == trial_id) & (trials.c.phase == Phase.PAUSED)
    with storage.lock():
        rows = storage.select(joined_trials(sweep.name).where(paused))
        if not rows or rows[0]["state"] != State.RUNNING:
            return None
        (row,) = rows
        if not _may_take(storage, row, storage.now()):
            return None
        lease = {"token": token, "renewed_at": storage.clock(), **dataclasses.asdict(me)}
        with storage.transaction() as connection:
            done = connection.execute(sa.update(trials).where(paused).values(**lease))
    return _lease_of(storage, row, token, int(row["attempt"])) if done.rowcount == 1 else None


def _group_requests(sweep: Sweep, requests: Sequence[ClaimRequest]) -> list[list[ClaimRequest]]:
    """Return the variants in order, those side by side that one query can look through.

    One with a space comes alone, since drawing from it comes before the next variant.
    """
    groups: list[list[ClaimRequest]] = []
    for request in requests:
        alone = bool(sweep.variants[request.variant].space)
        if alone or not groups or sweep.variants[groups[-1][0].variant].space:
            groups.append([request])
        else:
            groups[-1].append(request)
    return groups


def _kind_filter(requests: Sequence[ClaimRequest]) -> sa.ColumnElement[bool]:
    """Return the filter: repetitions of the named trials if any, else a search's or the plan's."""
    confirms = trials.c.facts["confirms"].as_string()
    names = {name for request in requests for name in request.confirms}
    if names:
        repetitions: sa.ColumnElement[bool] = confirms.in_(names)
        return repetitions
    search = trials.c.facts["search"].as_string()
    searching = any(request.search is not None for request in requests)
    kind = search.is_not(None) if searching else search.is_(None)
    regular: sa.ColumnElement[bool] = confirms.is_(None) & kind
    return regular


def _resumable_filter(requests: Sequence[ClaimRequest]) -> sa.ColumnElement[bool]:
    """Return the filter: paused trials that may go on."""
    ids = [
        i for request in requests if request.search is not None for i in request.search.going_on
    ]
    return trials.c.trial_id.in_(ids)


def _requested_rows(
    sweep: Sweep, requests: Sequence[ClaimRequest], columns: Sequence[sa.ColumnElement[Any]]
) -> sa.Select[Any]:
    """Return the query for these columns of all trials of the requested variants, by number."""
    names = [request.variant for request in requests]
    return joined_trials(sweep.name, columns).where(trials.c.variant.in_(names))
