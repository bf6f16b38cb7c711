"""What is recorded with a study: what was registered, and what people decided by hand.

Each study has one user attribute for it. Its `history` lists changes of the sweep file and manual
choices, each with its time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.plan.sweep import Sweep
from pipeline.study.db.storage import Storage
from pipeline.study.tables import trials
from pipeline.study.trial_rows import TrialRow, read_board, study_name

#: The user attribute.
META = "pcan"


def read_meta(storage: Storage, study_id: int) -> dict[str, Any]:
    """Return what is recorded with a study, empty if nothing is."""
    return dict(storage.rdb.get_study_user_attrs(study_id).get(META, {}))


def write_meta(storage: Storage, study_id: int, meta: Mapping[str, Any]) -> None:
    """Replace what is recorded with a study."""
    storage.rdb.set_study_user_attr(study_id, META, dict(meta))


def record_manual_start(
    sweep: Sweep, storage: Storage, variants: Sequence[str], signed: Mapping[str, str]
) -> None:
    """Record in the studies of these variants that a person named them for a launch.

    Args:
        signed: who and when.
    """
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock():
        for variant in variants:
            _append_history(sweep, storage, variant, {**signed, "chosen": "launch --variant"})


def record_manual_export(
    sweep: Sweep, storage: Storage, row: TrialRow, signed: Mapping[str, str]
) -> list[dict[str, str]]:
    """Record with a trial, and in its study, that a person chose it for export.

    Optuna's record of a finished trial is closed, so our row beside it holds this.

    Args:
        signed: who and when.

    Returns:
        All such choices of this trial so far.
    """
    storage.rdb  # noqa: B018  opened before the lock, which opening takes too
    with storage.lock():
        rows = read_board(sweep.name, storage)
        facts = next(dict(r.facts) for r in rows if r.trial_id == row.trial_id)
        chosen = [*facts.get("chosen", []), dict(signed)]
        this = trials.c.trial_id == row.trial_id
        with storage.transaction() as connection:
            values = {"facts": {**facts, "chosen": chosen}}
            connection.execute(sa.update(trials).where(this).values(**values))
        _append_history(sweep, storage, row.variant, {**signed, "exported": row.name})
    return chosen


def _append_history(
    sweep: Sweep, storage: Storage, variant: str, entry: Mapping[str, str]
) -> None:
    study_id = storage.rdb.get_study_id_from_name(study_name(sweep, variant))
    meta = read_meta(storage, study_id)
    meta["history"] = [*meta.get("history", []), dict(entry)]
    write_meta(storage, study_id, meta)
