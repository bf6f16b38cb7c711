"""Register a sweep: one Optuna study a variant, each recipe enqueued once.

Safe to repeat and to run from several launchers at once. What may change in the sweep file after
that (gates, patience, ladder, bands, resources) is recorded with its date; a changed recipe makes
a new trial of its study; a changed metric is refused.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.errors import InputError
from pipeline.plan.recipe import MISSING, recipe_value
from pipeline.plan.search.space import applicable
from pipeline.plan.sweep import Sweep, Variant
from pipeline.shared.files import timestamp
from pipeline.shared.states import Cause, Phase
from pipeline.study.add_trial import fail_in_optuna, insert_row
from pipeline.study.audit import META, write_meta
from pipeline.study.db.storage import Storage
from pipeline.study.owner import is_dead, shown_host
from pipeline.study.stages import Stages
from pipeline.study.tables import optuna_trials, trials
from pipeline.study.trial_rows import read_board, study_name

DIRECTION = "maximize"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegisteredRecipe:
    """What is registered of a variant.

    Args:
        hash: digest of the resolved config, without machine facts; None for a stage that waits
            for an earlier one, of which no trial is enqueued yet.
        values: what the recipe has at the paths of its `space`.
    """

    hash: str | None
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registration:
    """What `register` found or did for one variant."""

    variant: str
    study: str
    created: bool
    new_recipe: bool
    changed: tuple[str, ...]


def recipe_of(
    variant: Variant, config_hash: str | None, base: Mapping[str, Any] | None = None
) -> RegisteredRecipe:
    """Return a variant's recipe.

    Args:
        config_hash: digest of the variant's resolved config; of a stage see `Stages.recipes`.
        base: values of the resolved config by path, for searched paths the recipe leaves alone.
    """
    values = {}
    for path in variant.space:
        value = recipe_value(variant, path)
        if value is MISSING:
            value = (base or {}).get(path, MISSING)
        if value is not MISSING:
            values[path] = value
    return RegisteredRecipe(hash=config_hash, values=applicable(variant.space, values))


def register(
    sweep: Sweep, storage: Storage, recipes: Mapping[str, RegisteredRecipe]
) -> list[Registration]:
    """Make the studies that are missing and enqueue each recipe once.

    Raises:
        InputError: a study was made for another metric or direction, or was deleted while a launch
            runs a trial of it.
        StorageError: the storage cannot be used.
    """
    rdb = storage.rdb
    with storage.lock():
        _forget_deleted(storage)
        known = {s.study_name: s for s in rdb.get_all_studies()}
        return [
            _register_one(sweep, name, recipe, storage, known.get(study_name(sweep, name)))
            for name, recipe in recipes.items()
        ]


def _forget_deleted(storage: Storage) -> None:
    """Delete rows whose trials Optuna no longer has, such as those of a study deleted there.

    A database may give their ids to new trials. What they did is in the run directories
    (`pcan doctor --rebuild`).

    Raises:
        InputError: a launch still runs one of them.
    """
    gone = trials.c.trial_id.not_in(sa.select(optuna_trials.c.trial_id))
    rows = storage.select(sa.select(trials).where(gone))
    now = storage.now() if rows else 0.0
    for row in rows:
        if not is_dead(row, now):
            name = f"{row['variant']}/{row['number']} of {row['sweep']}"
            raise InputError(
                f"{name} is run by pid {row['pid']} on {shown_host(row['host'])}, and its study "
                "was deleted in Optuna meanwhile. Let "
                f"that launch end, then refill the storage: pcan doctor {row['sweep']} --rebuild"
            )
    with storage.transaction() as connection:
        for row in rows:
            connection.execute(sa.delete(trials).where(trials.c.trial_id == row["trial_id"]))


def register_all(sweep: Sweep, storage: Storage, hashes: Mapping[str, str]) -> list[Registration]:
    """Register every variant.

    Args:
        hashes: digest of each variant's resolved config.
    """
    present = Stages(sweep, read_board(sweep.name, storage), hashes).recipes()
    recipes = {name: recipe_of(one, present.get(name)) for name, one in sweep.variants.items()}
    return register(sweep, storage, recipes)


def registration_lines(done: Sequence[Registration]) -> list[str]:
    """Return a line for each thing that registering changed."""
    new = [r.variant for r in done if r.created]
    lines = [f"Registered: {', '.join(new)}."] if new else []
    for r in done:
        if r.new_recipe:
            lines.append(f"{r.variant}: the recipe has changed; it gets a new trial.")
        if r.changed:
            lines.append(f"{r.variant}: {', '.join(r.changed)} changed; recorded with the date.")
    return lines


def _register_one(
    sweep: Sweep, variant: str, recipe: RegisteredRecipe, storage: Storage, stored: Any
) -> Registration:
    from optuna.study import StudyDirection

    rdb = storage.rdb
    name = study_name(sweep, variant)
    created = stored is None
    if created:
        study_id = rdb.create_new_study([StudyDirection.MAXIMIZE], name)
        before: dict[str, Any] = {}
    else:
        study_id = stored._study_id
        before = stored.user_attrs.get(META, {})
        _check_same(sweep, variant, before, stored)
    now = _facts(sweep, variant, recipe, before)
    changed = tuple(
        key for key in now if key not in ("recipe_hash", "metric") and before.get(key) != now[key]
    )
    new_recipe = recipe.hash is not None and before.get("recipe_hash") != recipe.hash
    if new_recipe:
        _enqueue(sweep, variant, recipe, storage, study_id)
    if new_recipe or changed:
        history = before.get("history", [])
        if before:
            what = [*changed, *(["recipe"] if new_recipe else [])]
            history = [*history, {"time": timestamp(), "changed": what}]
        write_meta(storage, study_id, {**now, "history": history})
    return Registration(
        variant=variant,
        study=name,
        created=created,
        new_recipe=new_recipe and before.get("recipe_hash") is not None,
        changed=() if created else changed,
    )


def _facts(
    sweep: Sweep, variant: str, recipe: RegisteredRecipe, before: Mapping[str, Any]
) -> dict[str, Any]:
    v = sweep.variants[variant]
    return {
        "metric": sweep.metric_of(variant),
        "recipe_hash": recipe.hash or before.get("recipe_hash"),
        "plan": v.plan,
        "gates": [gate.record() for gate in v.gates],
        "bands": [{**band.model_dump(), "top1": list(band.top1)} for band in v.bands],
        "patience": v.patience.model_dump() if v.patience else None,
        "space": {
            path: {k: w for k, w in s.model_dump().items() if w not in (None, (), {})}
            for path, s in v.space.items()
        },
        "ladder": [
            rule.condition() + " -> " + ", ".join(rule.next) for rule in sweep.ladder.after
        ],
    }


def _check_same(sweep: Sweep, variant: str, before: Mapping[str, Any], stored: Any) -> None:
    metric, now, name = before.get("metric"), sweep.metric_of(variant), stored.study_name
    if metric is not None and metric != now:
        where = sweep.where("objective", "metric")
        if now != sweep.objective.metric:
            where = sweep.where("variants", variant, "metric")
        raise InputError(
            f'{where}: study "{name}" was made for the metric '
            f'"{metric}", this file says "{now}". Change it back, or give the '
            "sweep another name."
        )
    direction = " and ".join(one.name.lower() for one in stored.directions)
    if direction != DIRECTION:
        raise InputError(
            f'Study "{name}" in this storage is to {direction}, a sweep is to {DIRECTION}. Give '
            "the sweep another name, or use another storage."
        )


def _enqueue(
    sweep: Sweep, variant: str, recipe: RegisteredRecipe, storage: Storage, study_id: int
) -> None:
    """Add the recipe as a WAITING trial; an older recipe that never ran is withdrawn.

    A registration that was cut off is completed, not repeated.
    """
    newest = _newest_recipe(sweep, variant, storage)
    if newest is not None and newest["recipe_hash"] == recipe.hash and newest["attempt"] == 0:
        return
    _withdraw_unstarted(sweep, variant, storage)
    trial_id = _waiting_trial(recipe, storage, study_id)
    number = storage.rdb.get_trial(trial_id).number
    with storage.transaction() as connection:
        insert_row(
            connection,
            sweep,
            variant,
            trial_id,
            number,
            recipe_hash=recipe.hash,
            params=recipe.values,
        )


def _newest_recipe(sweep: Sweep, variant: str, storage: Storage) -> Mapping[str, Any] | None:
    query = (
        sa.select(trials.c.recipe_hash, trials.c.attempt)
        .where((trials.c.sweep == sweep.name) & (trials.c.variant == variant))
        .where(trials.c.recipe_hash.is_not(None))
        .order_by(trials.c.number.desc())
        .limit(1)
    )
    return next(iter(storage.select(query)), None)


def _waiting_trial(recipe: RegisteredRecipe, storage: Storage, study_id: int) -> int:
    """Return the recipe's WAITING trial in Optuna: one without a row of ours yet, or a new one."""
    from optuna.trial import TrialState, create_trial

    known = {row["trial_id"] for row in storage.select(sa.select(trials.c.trial_id))}
    for trial in storage.rdb.get_all_trials(study_id, False, (TrialState.WAITING,)):
        if trial._trial_id not in known and trial.user_attrs.get("recipe_hash") == recipe.hash:
            return trial._trial_id
    template = create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": dict(recipe.values)},
        user_attrs={"recipe_hash": recipe.hash},
    )
    return int(storage.rdb.create_new_trial(study_id, template))


def _withdraw_unstarted(sweep: Sweep, variant: str, storage: Storage) -> None:
    """End recipes that are still waiting; the file has replaced them.

    First in our table, which decides who may claim: no launcher can claim one after that.
    """
    this = (trials.c.sweep == sweep.name) & (trials.c.variant == variant)
    waiting = this & trials.c.recipe_hash.is_not(None) & (trials.c.attempt == 0)
    waiting &= trials.c.phase == Phase.WAITING
    why = {"cause": Cause.SUPERSEDED, "reason": "the recipe changed before it was run"}
    with storage.transaction() as connection:
        done = sa.update(trials).where(waiting).values(phase=Phase.DONE, **why)
        ids = list(connection.execute(done.returning(trials.c.trial_id)).scalars())
    for trial_id in ids:
        fail_in_optuna(storage, trial_id)
