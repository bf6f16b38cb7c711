"""Let a study go on whose searched space has changed: its choices, its scale, a range for choices.

Optuna refuses a parameter whose choices, scale or kind differ from what is stored with earlier
trials, and has no call that changes these. So the stored values are written again as values of the
new space, and what it cannot hold is left out there. Our own rows keep every trial's values.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.study.db.storage import Storage
from pipeline.study.optuna_tables import trial_params
from pipeline.study.tables import optuna_trials

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def adapt_stored_values(
    storage: Storage, study_id: int, space: Mapping[str, "BaseDistribution"]
) -> None:
    """Make the values that a study has stored agree with a space; the storage's lock is held.

    Args:
        space: Optuna's distributions by path.
    """
    with storage.transaction() as connection:
        for path, text in _stored(connection, study_id, list(space)):
            if not _compatible(text, space[path]):
                _rewrite(connection, study_id, path, text, space[path])


def _stored(connection: sa.Connection, study_id: int, paths: list[str]) -> list[tuple[str, str]]:
    """Return the paths that trials have values of, each with its distributions as JSON."""
    columns = trial_params.c.param_name, trial_params.c.distribution_json
    mine = _of_study(study_id) & trial_params.c.param_name.in_(paths)
    query = sa.select(*columns).where(mine).distinct()
    return [(str(path), str(text)) for path, text in connection.execute(query)]


def _of_study(study_id: int) -> sa.ColumnElement[bool]:
    ids = sa.select(optuna_trials.c.trial_id).where(optuna_trials.c.study_id == study_id)
    return trial_params.c.trial_id.in_(ids)


def _compatible(text: str, kind: "BaseDistribution") -> bool:
    from optuna.distributions import check_distribution_compatibility, json_to_distribution

    try:
        check_distribution_compatibility(json_to_distribution(text), kind)
    except ValueError:
        return False
    return True


def _rewrite(
    connection: sa.Connection, study_id: int, path: str, text: str, kind: "BaseDistribution"
) -> None:
    from optuna.distributions import distribution_to_json, json_to_distribution

    mine = _of_study(study_id) & (trial_params.c.param_name == path)
    mine &= trial_params.c.distribution_json == text
    before = json_to_distribution(text)
    stored = connection.scalars(sa.select(trial_params.c.param_value).where(mine).distinct())
    for number in stored.all():
        same = mine & (trial_params.c.param_value == number)
        value = before.to_external_repr(number)
        fitting = _holding(kind, value)
        if fitting is None:
            connection.execute(sa.delete(trial_params).where(same))
            continue
        columns = {
            "param_value": float(fitting.to_internal_repr(value)),
            "distribution_json": distribution_to_json(fitting),
        }
        connection.execute(sa.update(trial_params).where(same).values(**columns))


def _holding(kind: "BaseDistribution", value: Any) -> "BaseDistribution | None":
    """Return a distribution that the new one is compatible with and that holds a value."""
    from optuna.distributions import FloatDistribution

    if _holds(kind, value):
        return kind
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and isinstance(kind, FloatDistribution)) or (kind.log and value <= 0):
        return None
    return FloatDistribution(min(kind.low, value), max(kind.high, value), log=kind.log)


def _holds(kind: "BaseDistribution", value: Any) -> bool:
    from optuna.trial import create_trial

    try:
        create_trial(params={"x": value}, distributions={"x": kind}, value=0.0)
    except (ValueError, TypeError):
        return False
    return True
