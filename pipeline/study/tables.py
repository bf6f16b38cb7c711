"""Our tables beside Optuna's: who runs each trial and its latest figures, and their version.

Optuna's tables stay the truth for studies, values and states. `pcan_trials` decides who may run a
trial (the lease) and lets `status` answer without loading a study.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.shared.states import Phase, State
from pipeline.study.db.schema_version import (
    SCHEMA_VERSION,
    TRIALS_TABLE,
    VERSION_TABLE,
    refuse_newer,
)

metadata = sa.MetaData()

trials = sa.Table(
    TRIALS_TABLE,
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sweep", sa.String(100), nullable=False, index=True),
    sa.Column("variant", sa.String(100), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    # Differs from that of a trial of the same name in another storage.
    sa.Column("uid", sa.String(32), nullable=False, default=lambda: secrets.token_hex(16)),
    sa.Column("recipe_hash", sa.String(64)),  # null for a searched trial
    sa.Column("params", sa.JSON),  # values of the searched paths
    # The lease. token is null while the trial is not run; attempt counts the starts.
    sa.Column("token", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("host", sa.String(300)),
    sa.Column("boot_id", sa.String(64)),
    sa.Column("pid", sa.Integer),
    sa.Column("proc_start", sa.BigInteger),
    sa.Column("renewed_at", sa.Float),  # seconds since 1970 by the database's clock
    sa.Column("gpus", sa.String(300)),
    sa.Column("run_dir", sa.String(1000)),
    sa.Column("phase", sa.String(20), nullable=False, default=Phase.WAITING),
    # Latest figures.
    sa.Column("epoch", sa.Integer, nullable=False, default=0),
    sa.Column("last_top1", sa.Float),
    sa.Column("best_top1", sa.Float),
    sa.Column("best_epoch", sa.Integer),
    sa.Column("lr", sa.Float),
    sa.Column("seconds", sa.Float, nullable=False, default=0.0),  # job time over all attempts
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("cause", sa.String(100)),
    sa.Column("reason", sa.Text),
    sa.Column("verdicts", sa.JSON),  # records of the verdicts that a rule gave
    # Values of the averaged weights by epoch, for a search's rule: never a result.
    sa.Column("averaged", sa.JSON),
    sa.Column("facts", sa.JSON),  # what is fixed at the start: epochs, store, clips, ...
    sa.UniqueConstraint("sweep", "variant", "number"),
)

#: Finds what waits among thousands that are done.
_waiting_index = sa.Index(
    "ix_pcan_trials_phase", trials.c.sweep, trials.c.phase, trials.c.variant, trials.c.number
)

#: One row; a storage from before this table has none.
_version = sa.Table(
    VERSION_TABLE,
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

#: Optuna's own table of trials, as far as it is used here (schema of Optuna 5).
optuna_trials = sa.Table(
    "trials",
    sa.MetaData(),
    sa.Column("trial_id", sa.Integer),
    sa.Column("study_id", sa.Integer),
    sa.Column("number", sa.Integer),
    sa.Column("state", sa.Enum(*(state.value for state in State), name="trialstate")),
    sa.Column("datetime_start", sa.DateTime),
    sa.Column("datetime_complete", sa.DateTime),
)

#: Optuna's states of a trial that has ended.
FINISHED = [state for state in State if state.finished]


def joined_trials(sweep: str, columns: Sequence[sa.ColumnElement[Any]] = ()) -> "sa.Select[Any]":
    """Return the query for a sweep's trials by number, with Optuna's state beside our columns.

    Args:
        columns: what to select; nothing: all of ours and `state`.
    """
    query = sa.select(*columns) if columns else sa.select(trials, optuna_trials.c.state)
    return (
        query.join_from(trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id)
        .where(trials.c.sweep == sweep)
        .order_by(trials.c.number)
    )


def _add_waiting_index(connection: sa.Connection) -> None:
    _waiting_index.create(connection, checkfirst=True)


def _add_averaged(connection: sa.Connection) -> None:
    names = {column["name"] for column in sa.inspect(connection).get_columns(TRIALS_TABLE)}
    if "averaged" not in names:
        connection.execute(sa.text(f"ALTER TABLE {TRIALS_TABLE} ADD COLUMN averaged JSON"))


#: The k-th brings tables of version k to version k + 1.
_UPGRADES: tuple[Callable[[sa.Connection], None], ...] = (_add_waiting_index, _add_averaged)


def upgrade(engine: sa.Engine, shown: str) -> None:
    """Make our tables, or bring older ones to the present version; the storage's lock is held.

    Args:
        shown: the storage's URL without secrets.

    Raises:
        StorageError: a newer pcan has written the storage.
    """
    with engine.begin() as connection:
        existing = set(sa.inspect(connection).get_table_names())
        version = 0 if TRIALS_TABLE in existing else SCHEMA_VERSION
        if VERSION_TABLE in existing:
            version = connection.scalar(sa.select(_version.c.version)) or version
            refuse_newer(version, shown)
            if version == SCHEMA_VERSION and TRIALS_TABLE in existing:
                return
        metadata.create_all(connection)
        for step in _UPGRADES[version:]:
            step(connection)
        connection.execute(sa.delete(_version))
        connection.execute(sa.insert(_version).values(version=SCHEMA_VERSION))
