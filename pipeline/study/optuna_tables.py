"""Writes to Optuna's own tables, inside one transaction with our row.

Optuna's calls open a transaction each and ignore our token, so an owner that was replaced could
still end a trial between two of them. These few statements leave the rows as
Optuna's storage would; `tests/study/test_conformance.py` reads them back through Optuna.
"""

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.shared.states import State
from pipeline.study.tables import FINISHED, optuna_trials

_INSERT: Mapping[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_optuna = sa.MetaData()
_KINDS = ("FINITE", "INF_POS", "INF_NEG", "NAN")
_values = sa.Table(
    "trial_values",
    _optuna,
    sa.Column("trial_id", sa.Integer),
    sa.Column("objective", sa.Integer),
    sa.Column("value", sa.Float),
    sa.Column("value_type", sa.Enum(*_KINDS[:3], name="trialvaluetype")),
)
_intermediate = sa.Table(
    "trial_intermediate_values",
    _optuna,
    sa.Column("trial_id", sa.Integer),
    sa.Column("step", sa.Integer),
    sa.Column("intermediate_value", sa.Float),
    sa.Column("intermediate_value_type", sa.Enum(*_KINDS, name="trialintermediatevaluetype")),
)
trial_params = sa.Table(
    "trial_params",
    _optuna,
    sa.Column("trial_id", sa.Integer),
    sa.Column("param_name", sa.String(512)),
    sa.Column("param_value", sa.Float),
    sa.Column("distribution_json", sa.Text),
)
_attributes = sa.Table(
    "trial_user_attributes",
    _optuna,
    sa.Column("trial_id", sa.Integer),
    sa.Column("key", sa.String(512)),
    sa.Column("value_json", sa.Text),
)


def start(connection: sa.Connection, trial_id: int) -> None:
    """Set a waiting trial RUNNING."""
    waiting = (optuna_trials.c.trial_id == trial_id) & (optuna_trials.c.state == State.WAITING)
    values = {"state": State.RUNNING, "datetime_start": _now()}
    connection.execute(sa.update(optuna_trials).where(waiting).values(**values))


def set_params(
    connection: sa.Connection, trial_id: int, params: Mapping[str, tuple[float, str]]
) -> None:
    """Record parameters, each as Optuna's internal value and its distribution as JSON."""
    for name, (value, distribution) in params.items():
        row = {"trial_id": trial_id, "param_name": name, "param_value": value}
        statement = _INSERT[connection.dialect.name](trial_params)
        statement = statement.values(**row, distribution_json=distribution)
        connection.execute(statement.on_conflict_do_nothing())


def add_values(connection: sa.Connection, trial_id: int, values: Mapping[int, float]) -> None:
    """Add intermediate values by step; a value that is there already stays."""
    if not values:
        return
    rows = [
        {
            "trial_id": trial_id,
            "step": step,
            "intermediate_value": value if math.isfinite(value) else None,
            "intermediate_value_type": _kind(value),
        }
        for step, value in values.items()
    ]
    insert = _INSERT[connection.dialect.name]
    connection.execute(insert(_intermediate).on_conflict_do_nothing(), rows)


def end(
    connection: sa.Connection,
    trial_id: int,
    state: str,
    values: Iterable[float] | None,
    attributes: Mapping[str, Any],
) -> None:
    """End a trial, with its user attributes; one that has ended already stays as it is."""
    unended = (optuna_trials.c.trial_id == trial_id) & optuna_trials.c.state.not_in(FINISHED)
    ended = connection.execute(
        sa.update(optuna_trials).where(unended).values(state=state, datetime_complete=_now())
    )
    if ended.rowcount != 1:
        return
    insert = _INSERT[connection.dialect.name]
    for objective, value in enumerate(values or ()):
        statement = insert(_values).values(
            trial_id=trial_id,
            objective=objective,
            value=value if math.isfinite(value) else None,
            value_type=_kind(value),
        )
        connection.execute(statement.on_conflict_do_nothing())
    for key, value in attributes.items():
        text = json.dumps(value)
        statement = insert(_attributes).values(trial_id=trial_id, key=key, value_json=text)
        same = {"index_elements": ["trial_id", "key"], "set_": {"value_json": text}}
        connection.execute(statement.on_conflict_do_update(**same))


def _kind(value: float) -> str:
    if math.isfinite(value):
        return "FINITE"
    return "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def _now() -> datetime.datetime:
    """Return the time as Optuna writes it: local, without a zone."""
    return datetime.datetime.now()
