"""All trials of a sweep in one query, and what follows from their rows: kind, outcome, cost.

Without Optuna's classes and without SQLAlchemy: loading a study through Optuna reads every epoch
of every trial; a few rows answer `status`, `watch`, `best` and the ladder.
"""

import dataclasses
import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.ladder import VariantOutcome
from pipeline.plan.project import no_such_trial
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.states import Cause, Kind, Phase, State
from pipeline.study.db.storage import Storage
from pipeline.study.owner import is_dead, shown_host, this_host

_FINISHED = tuple(state for state in State if state.finished)
#: Our table (`tables.py`) beside the states of Optuna's.
_BOARD = """
SELECT p.*, CAST(t.state AS VARCHAR(20)) AS state
FROM pcan_trials AS p JOIN trials AS t ON t.trial_id = p.trial_id
WHERE p.sweep = :sweep ORDER BY t.study_id, p.number
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial as the storage knows it; figures are of the latest reported epoch."""

    trial_id: int
    variant: str
    number: int
    state: State
    phase: Phase
    recipe_hash: str | None
    params: Mapping[str, Any]
    attempt: int
    host: str | None
    pid: int | None
    renewed_at: float | None
    gpus: str | None
    run_dir: str | None
    epoch: int
    last_top1: float | None
    best_top1: float | None
    best_epoch: int | None
    lr: float | None
    seconds: float
    started_at: float | None
    ended_at: float | None
    cause: str | None
    reason: str | None
    verdicts: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]
    #: Values of the averaged weights by epoch.
    averaged: Mapping[int, float] = dataclasses.field(default_factory=dict)
    #: Differs from that of a trial of the same name in another storage.
    uid: str | None = None
    #: When the row was read, by the database's clock.
    read_at: float | None = None

    @property
    def name(self) -> str:
        """The trial as users name it: VARIANT/NUMBER."""
        return f"{self.variant}/{self.number}"

    def remote_host(self, root: Path) -> str | None:
        """Return the host that has the run directory, None if it is seen from here.

        Args:
            root: the project's folder on this host.
        """
        if self.here or (root / str(self.run_dir)).is_dir():
            return None
        return shown_host(self.host or "")

    @property
    def here(self) -> bool:
        """Whether no other host can have the run directory: it was never made, or made here."""
        return self.run_dir is None or self.host is None or self.host == this_host()

    @property
    def finished(self) -> bool:
        """Whether Optuna counts the trial as ended."""
        return self.state in _FINISHED

    @property
    def superseded(self) -> bool:
        """Whether the recipe changed before this trial was ever run."""
        return self.cause == Cause.SUPERSEDED

    @property
    def kind(self) -> Kind:
        """Why the trial exists."""
        return kind_of(self.facts, self.recipe_hash)

    @property
    def confirms(self) -> str | None:
        """The trial that this one repeats on another seed."""
        return self.facts.get("confirms") or None

    @property
    def continues(self) -> str | None:
        """The stopped trial that this one goes on from."""
        return self.facts.get("continues") or None

    @property
    def imported(self) -> bool:
        """Whether the trial is an earlier run, known from its log alone."""
        return self.kind is Kind.IMPORTED

    @property
    def is_regular(self) -> bool:
        """Whether a plan or a search asked for the trial, and still does."""
        return not self.superseded and self.kind not in BESIDE


#: Kinds of trials that neither a plan nor a search asked for.
BESIDE = (Kind.IMPORTED, Kind.REPEAT)


def kind_of(facts: Mapping[str, Any] | None, recipe_hash: str | None) -> Kind:
    """Return why a trial exists, from two columns of its row.

    A continued trial of a search is still one of the search.
    """
    facts = facts or {}
    marks = (
        ("imported", Kind.IMPORTED),
        ("confirms", Kind.REPEAT),
        ("search", Kind.SEARCH),
        ("continues", Kind.CONTINUATION),
    )
    default = Kind.DRAWN if recipe_hash is None else Kind.RECIPE
    return next((kind for key, kind in marks if facts.get(key)), default)


_FIELDS = [field.name for field in dataclasses.fields(TrialRow) if field.name != "read_at"]


def study_name(sweep: Sweep, variant: str) -> str:
    """Return the Optuna name of a variant's study."""
    return f"{sweep.name}/{variant}"


def read_board(sweep_name: str, storage: Storage) -> list[TrialRow]:
    """Return the trials of a sweep, by study in the order they were made.

    Raises:
        StorageError: the storage cannot be read.
    """
    if not storage.exists():
        return []
    now = storage.now()
    return [_row(row, now) for row in storage.read(_BOARD, sweep=sweep_name)]


def row_named(
    sweep: str, rows: Sequence[TrialRow], name: str, runs: Path | None = None
) -> TrialRow:
    """Return the trial of a name, VARIANT/NUMBER.

    Args:
        runs: the project's runs, where another sweep may have the one that was named.

    Raises:
        InputError: there is none; the text lists those there are.
    """
    row = next((one for one in rows if one.name == name), None)
    if row is None:
        raise no_such_trial(sweep, name, [one.name for one in rows if not one.superseded], runs)
    return row


def sweeps_in(storage: Storage) -> dict[str, int]:
    """Return the names of the sweeps registered in a storage, with their number of studies."""
    if not storage.exists():
        return {}
    query = "SELECT sweep, count(DISTINCT variant) AS studies FROM pcan_trials GROUP BY sweep"
    return {row["sweep"]: row["studies"] for row in storage.read(query)}


def recipe_row(rows: Sequence[TrialRow], variant: str, recipe_hash: str) -> TrialRow | None:
    """Return the trial of a variant's present recipe, if it is registered."""
    same = [r for r in rows if r.variant == variant and r.recipe_hash == recipe_hash]
    return same[-1] if same else None


def ended_recipes(
    sweep: Sweep, rows: Sequence[TrialRow], hashes: Mapping[str, str]
) -> dict[str, VariantOutcome]:
    """Return how each variant's present recipe ended, for the ladder."""
    ended = {}
    for variant in sweep.variants:
        row = recipe_row(rows, variant, hashes.get(variant, ""))
        if row is None:
            continue
        stopping = [v for v in row.verdicts if v.get("verdict") == VerdictKind.PRUNE.value]
        ended[variant] = VariantOutcome(
            state=row.state if row.finished else None,
            verdict=stopping[-1] if stopping else None,
            cause=row.cause,
        )
    return ended


def _row(row: Mapping[str, Any], now: float) -> TrialRow:
    fields: dict[str, Any] = {
        name: row.get(name) for name in _FIELDS
    }  # an older storage may lack a column
    fields["state"] = State(row["state"])
    fields["phase"] = _phase(row, now)
    fields["params"] = _json(row["params"]) or {}
    fields["verdicts"] = _json(row["verdicts"]) or []
    fields["facts"] = _json(row["facts"]) or {}
    fields["averaged"] = by_epoch_number(row.get("averaged"))
    return TrialRow(**fields, read_at=now)


def by_epoch_number(column: Any) -> dict[int, float]:
    """Return the `averaged` column's values by epoch; none where nothing was read."""
    return {int(epoch): float(value) for epoch, value in (_json(column) or {}).items()}


def _json(value: Any) -> Any:
    """Return a JSON column's value; SQLite returns its text."""
    return json.loads(value) if isinstance(value, str) else value


def _phase(row: Mapping[str, Any], now: float) -> Phase:
    """Return the phase, which a dead owner could not write itself."""
    if State(row["state"]).finished:
        return Phase.DONE
    phase = Phase(row["phase"])
    if phase is Phase.RUNNING and is_dead(row, now):
        return Phase.INTERRUPTED
    return phase


def _ended_hours(sweep: Sweep, rows: Sequence[TrialRow]) -> float:
    """Return the GPU hours of ended jobs of these trials (on the CPU: hours times processes)."""
    return sum(row.seconds for row in rows) * sweep.job.gpus / 3600


def hours_so_far(sweep: Sweep, rows: Sequence[TrialRow], without: Collection[int] = ()) -> float:
    """Return the GPU hours of all jobs of these trials, including those that run now anywhere.

    Args:
        without: ids of trials whose running job the caller counts itself.
    """
    spent = [row.seconds if row.trial_id in without else job_seconds(row) for row in rows]
    return sum(spent) * sweep.job.gpus / 3600


def job_seconds(row: TrialRow) -> float:
    """Return how long jobs of this trial have run, in seconds over all attempts."""
    begun = row.facts.get("attempt_started")
    if row.phase != Phase.RUNNING or not isinstance(begun, int | float):
        return row.seconds
    now = row.read_at or time.time()  # by the clock that the start was written by
    return row.seconds + max(0.0, now - begun)


def epoch_hours(sweep: Sweep, rows: Sequence[TrialRow]) -> tuple[float | None, bool]:
    """Return the GPU hours of an epoch, and whether they were measured in this sweep.

    Without a measured epoch the file's `job.epoch_minutes` is used; None where it has none.
    """
    run = [r for r in rows if r.epoch > 0 and r.seconds > 0 and r.variant not in sweep.makers]
    if run:
        return _ended_hours(sweep, run) / sum(r.epoch for r in run), True
    minutes = sweep.job.epoch_minutes
    return (minutes * sweep.job.gpus / 60 if minutes is not None else None), False
