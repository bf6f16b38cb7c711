"""Draw another trial of a variant's space: Optuna's TPE, asked about a copy of the study.

A copy, because the study does not show everything as TPE should see it: a paused trial counts as
running there, which the constant liar takes for bad, and a diverged one as failed, which TPE
leaves out. In the copy both are pruned trials: by the values they had, or as the worst of all.
"""

import dataclasses
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.plan.search.space import applicable
from pipeline.plan.search.space import draw as draw_values
from pipeline.plan.sweep import Search, Space, Sweep
from pipeline.shared.states import Cause, Kind, Phase, State
from pipeline.study.add_trial import add_trial, fail_in_optuna
from pipeline.study.changed_space import adapt_stored_values
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import kind_of, study_name

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """How a search claims, beside its number of trials.

    Args:
        seed: of the sampler; the n-th trial of a search is drawn alike after a restart.
        settings: the search's; None: the sweep file's.
        first: values of the search's first trial: the recipe's, where it has not been run.
        going_on: ids of paused trials that may go on.
    """

    seed: int
    settings: Search | None = None
    first: Mapping[str, Any] | None = None
    going_on: frozenset[int] = frozenset()


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

    Returns:
        The new trial's row, with Optuna's `state`.
    """
    import optuna

    name, space = study_name(sweep, variant), sweep.variants[variant].space
    kinds = {path: distribution(one) for path, one in space.items()}
    adapt_stored_values(storage, storage.rdb.get_study_id_from_name(name), kinds)
    study = optuna.load_study(study_name=name, storage=storage.rdb)
    _end_unclaimed(storage, study, {r["trial_id"] for r in rows})
    drawn = [r for r in rows if r["recipe_hash"] is None]
    # Looked at under the lock: several slots, or jobs, may each hope to be the first.
    begun = any(kind_of(r["facts"], r["recipe_hash"]) is Kind.SEARCH for r in rows)
    if search is not None and search.first is not None and not begun:
        values = applicable(space, search.first)
    else:
        seed = search.seed if search else sweep.search.seed
        values = _ask(study, space, rows, _seed(seed, drawn))
    template = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=values,
        distributions={path: kinds[path] for path in values},
    )
    facts = _drawn_under(search.settings or sweep.search) if search is not None else {}
    row = add_trial(
        sweep, storage, variant, template, recipe_hash=None, params=values, facts=facts
    )
    return {**row, "state": State.RUNNING, "run_dir": None, "started_at": None}


def _drawn_under(settings: Search) -> dict[str, str]:
    return {"search": settings.rule, "read": settings.read}


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
        shown = _shown_to_tpe(trial, known.get(trial._trial_id))
        if shown is not None:
            copy.add_trial(shown)
    trial = copy.ask()
    return draw_values(space, lambda path, one: _suggest(trial, path, one))


def _shown_to_tpe(trial: Any, row: Mapping[str, Any] | None) -> Any:
    """Return a trial as TPE is to see it, None for one that has no information yet."""
    from optuna.trial import TrialState, create_trial

    state, values = trial.state, trial.intermediate_values
    phase, cause = (row["phase"], row["cause"]) if row is not None else (None, None)
    if state is TrialState.WAITING:
        return None
    if state is TrialState.RUNNING and phase == Phase.PAUSED and values:
        state = TrialState.PRUNED
    elif state is TrialState.FAIL and cause == Cause.NAN:
        state, values = TrialState.PRUNED, {}
    return create_trial(
        state=state,
        values=trial.values if state is TrialState.COMPLETE else None,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=values,
    )


def _end_unclaimed(storage: Storage, study: Any, known: Collection[int]) -> None:
    """Fail trials whose launcher died before it wrote their row.

    We hold the lock that drawing takes, so no other launcher is between the two now.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial._trial_id not in known:
            fail_in_optuna(storage, trial._trial_id, cause=Cause.NEVER_BEGUN)


def _suggest(trial: Any, path: str, space: Space) -> Any:
    if space.choices is not None:
        return trial.suggest_categorical(path, list(space.choices))
    return trial.suggest_float(path, space.low, space.high, log=space.log, step=space.step)


def distribution(space: Space) -> "BaseDistribution":
    """Return the distribution of a searched value for Optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if space.choices is not None:
        return CategoricalDistribution(space.choices)
    assert space.low is not None and space.high is not None
    return FloatDistribution(space.low, space.high, log=space.log, step=space.step)
