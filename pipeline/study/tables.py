"""Our one table beside Optuna's: who runs each trial, and its latest figures.

Optuna's tables stay the truth for studies, values and states. This one decides who may run a
trial (the lease) and lets `status` answer without loading a study.
"""

import secrets

import sqlalchemy as sa

metadata = sa.MetaData()

trials = sa.Table(
    "pcan_trials",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sweep", sa.String(100), nullable=False, index=True),
    sa.Column("variant", sa.String(100), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    # Tells a trial from one of the same name in another storage.
    sa.Column("uid", sa.String(32), nullable=False, default=lambda: secrets.token_hex(16)),
    sa.Column("recipe_hash", sa.String(64)),  # null for a searched trial
    sa.Column("params", sa.JSON),  # values of the searched paths
    # The lease. token is null while nobody runs the trial; attempt counts the starts.
    sa.Column("token", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("host", sa.String(300)),
    sa.Column("boot_id", sa.String(64)),
    sa.Column("pid", sa.Integer),
    sa.Column("proc_start", sa.BigInteger),
    sa.Column("renewed_at", sa.Float),  # seconds since 1970 by the database's clock
    sa.Column("gpus", sa.String(300)),
    sa.Column("run_dir", sa.String(1000)),
    # waiting | running | interrupted | paused | done
    sa.Column("phase", sa.String(20), nullable=False, default="waiting"),
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
    sa.Column("verdicts", sa.JSON),  # records of the verdicts that had something to say
    sa.Column("facts", sa.JSON),  # what is fixed at the start: epochs, store, clips, ...
    sa.UniqueConstraint("sweep", "variant", "number"),
)

#: Finds what waits among thousands that are done.
waiting_index = sa.Index(
    "ix_pcan_trials_phase", trials.c.sweep, trials.c.phase, trials.c.variant, trials.c.number
)

#: Optuna's own table of trials, as far as it is used here (schema of Optuna 5).
optuna_trials = sa.Table(
    "trials",
    sa.MetaData(),
    sa.Column("trial_id", sa.Integer),
    sa.Column("study_id", sa.Integer),
    sa.Column("number", sa.Integer),
    sa.Column(
        "state", sa.Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")
    ),
    sa.Column("datetime_start", sa.DateTime),
    sa.Column("datetime_complete", sa.DateTime),
)
