"""The board: all trials of a sweep in one query, without Optuna's classes.

Loading a study through Optuna reads every epoch of every trial; a few rows answer `status`,
`watch`, `best` and the ladder.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.plan.ladder import Ended
from pipeline.plan.sweep import Sweep
from pipeline.study.claim import owner_is_gone
from pipeline.study.storage import Storage, told
from pipeline.study.table import optuna_trials, studies, trials

FINISHED = ("COMPLETE", "PRUNED", "FAIL")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial as the storage knows it; figures are of the latest reported epoch."""

    trial_id: int
    variant: str
    number: int
    state: str
    phase: str
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

    @property
    def name(self) -> str:
        """The trial as users name it: VARIANT/NUMBER."""
        return f"{self.variant}/{self.number}"

    @property
    def finished(self) -> bool:
        """Whether Optuna counts the trial as ended."""
        return self.state in FINISHED

    @property
    def superseded(self) -> bool:
        """Whether the recipe changed before this trial was ever run."""
        return self.cause == "superseded"


def read_board(sweep_name: str, storage: Storage) -> list[TrialRow]:
    """Return the trials of a sweep, by study in the order they were made.

    Raises:
        StorageError: the storage cannot be read.
    """
    query = (
        sa.select(trials, optuna_trials.c.state)
        .join_from(trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id)
        .where(trials.c.sweep == sweep_name)
        .order_by(optuna_trials.c.study_id, trials.c.number)
    )
    with told(storage):
        if not storage.exists() or not sa.inspect(storage.engine).has_table(trials.name):
            return []
        now = storage.now()
        with storage.engine.connect().execution_options(reading=True) as connection:
            rows = list(connection.execute(query).mappings())
    return [_row(dict(row), now) for row in rows]


def sweeps_in(storage: Storage) -> dict[str, int]:
    """Return the names of the sweeps registered in a storage, with their number of studies."""
    with told(storage):
        if not storage.exists():
            return {}
        with storage.engine.connect().execution_options(reading=True) as connection:
            names = connection.execute(sa.select(studies.c.study_name)).scalars()
            found: dict[str, int] = {}
            for name in names:
                if "/" in name:
                    sweep = name.split("/", 1)[0]
                    found[sweep] = found.get(sweep, 0) + 1
    return found


def recipe_row(rows: Sequence[TrialRow], variant: str, recipe_hash: str) -> TrialRow | None:
    """Return the trial of a variant's present recipe, if it is registered."""
    mine = [r for r in rows if r.variant == variant and r.recipe_hash == recipe_hash]
    return mine[-1] if mine else None


def ended_recipes(
    sweep: Sweep, rows: Sequence[TrialRow], hashes: Mapping[str, str]
) -> dict[str, Ended]:
    """Return how each variant's present recipe ended, for the ladder."""
    ended = {}
    for variant in sweep.variants:
        row = recipe_row(rows, variant, hashes.get(variant, ""))
        if row is None:
            continue
        stopping = [v for v in row.verdicts if v.get("verdict") == "prune"]
        ended[variant] = Ended(
            state=row.state if row.finished else None,
            verdict=stopping[-1] if stopping else None,
            cause=row.cause,
        )
    return ended


def _row(row: Mapping[str, Any], now: float) -> TrialRow:
    fields = {field.name: row[field.name] for field in dataclasses.fields(TrialRow)}
    fields["phase"] = _phase(row, now)
    fields["params"] = row["params"] or {}
    fields["verdicts"] = row["verdicts"] or []
    fields["facts"] = row["facts"] or {}
    return TrialRow(**fields)


def _phase(row: Mapping[str, Any], now: float) -> str:
    """Return the phase, which a dead owner could not write itself."""
    if row["state"] in FINISHED:
        return "done"
    if row["phase"] == "running" and owner_is_gone(row, now):
        return "interrupted"
    return str(row["phase"])
