"""Draw another trial of a variant's space: Optuna's TPE, asked about a copy of the study.

A copy, because the study does not show everything as TPE should see it: a paused trial counts as
running there, which the constant liar takes for bad, and a diverged one as failed, which TPE
leaves out. In the copy both are pruned trials: by the values they had, or as the worst of all.
"""

import dataclasses
import secrets
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.plan.search.space import applicable
from pipeline.plan.search.space import draw as draw_values
from pipeline.plan.sweep import Space, Sweep
from pipeline.study.db.storage import Storage
from pipeline.study.names import study_name
from pipeline.study.tables import trials

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """How a search claims, beside how many trials it wants.

    Args:
        seed: of the sampler; the n-th trial of a search is drawn alike after a restart.
        first: values of the search's first trial: the recipe's, where nobody has run it.
        going_on: ids of paused trials that may go on.
    """

    seed: int
    first: Mapping[str, Any] | None = None
    going_on: frozenset[int] = frozenset()


def of_search(row: Mapping[str, Any]) -> bool:
    """Whether a row of our table is a trial of a search."""
    return bool((row["facts"] or {}).get("search"))


def sample_trial(
    sweep: Sweep,
    storage: Storage,
    variant: str,
    rows: Sequence[Mapping[str, Any]],
    search: SamplerOptions | None,
) -> Mapping[str, Any]:
    """Add a drawn trial to the study and to our table; the storage's lock is held.

    Args:
        rows: all of the variant's trials.
        search: None: a trial of `launch --trials`.
    """
    import optuna

    study = optuna.load_study(study_name=study_name(sweep, variant), storage=storage.rdb)
    _end_unborn(storage, study, {r["trial_id"] for r in rows})
    space = sweep.variants[variant].space
    drawn = [r for r in rows if r["recipe_hash"] is None]
    # Looked at under the lock: several slots, or jobs, may each hope to be the first.
    begun = any(of_search(r) for r in rows)
    if search is not None and search.first is not None and not begun:
        values = applicable(space, search.first)
    else:
        values = _ask(
            study, space, rows, _seed(search.seed if search else sweep.search.seed, drawn)
        )
    template = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=values,
        distributions={path: distribution(space[path]) for path in values},
    )
    trial_id = int(storage.rdb.create_new_trial(study._study_id, template))
    row = {
        "trial_id": trial_id,
        "uid": secrets.token_hex(16),
        "sweep": sweep.name,
        "variant": variant,
        "number": int(storage.rdb.get_trial(trial_id).number),
        "recipe_hash": None,
        "params": values,
        "phase": "waiting",
        "attempt": 0,
        "epoch": 0,
        "seconds": 0.0,
        "facts": {"search": sweep.search.rule} if search is not None else {},
    }
    with storage.engine.begin() as connection:
        connection.execute(sa.insert(trials).values(**row))
    return {**row, "state": "RUNNING", "run_dir": None, "started_at": None}


def _seed(seed: int, drawn: Sequence[object]) -> int:
    return zlib.crc32(f"{seed}/{len(drawn)}".encode())


def _ask(
    study: Any, space: Mapping[str, Space], rows: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    """Ask TPE for the values of one trial."""
    import optuna

    sampler = optuna.samplers.TPESampler(constant_liar=True, seed=seed)
    copy = optuna.create_study(direction="maximize", sampler=sampler)
    known = {r["trial_id"]: r for r in rows}
    for trial in study.get_trials(deepcopy=True):
        seen = _as_seen(trial, known.get(trial._trial_id))
        if seen is not None:
            copy.add_trial(seen)
    trial = copy.ask()
    return draw_values(space, lambda path, one: _suggest(trial, path, one))


def _as_seen(trial: Any, row: Mapping[str, Any] | None) -> Any:
    """Return a trial as TPE is to see it, None for one that tells nothing."""
    from optuna.trial import TrialState, create_trial

    state, values = trial.state, trial.intermediate_values
    if state is TrialState.WAITING:
        return None
    if state is TrialState.RUNNING and row is not None and row["phase"] == "paused" and values:
        state = TrialState.PRUNED
    elif state is TrialState.FAIL and row is not None and row["cause"] == "nan":
        state, values = TrialState.PRUNED, {}
    return create_trial(
        state=state,
        values=trial.values if state is TrialState.COMPLETE else None,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=values,
    )


def _end_unborn(storage: Storage, study: Any, known: Collection[int]) -> None:
    """End trials that were drawn for a launcher killed before it could write its lease.

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


def distribution(space: Space) -> "BaseDistribution":
    """Return Optuna's word for a searched value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if space.choices is not None:
        return CategoricalDistribution(space.choices)
    assert space.low is not None and space.high is not None
    return FloatDistribution(space.low, space.high, log=space.log, step=space.step)
