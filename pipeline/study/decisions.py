"""What people decide about a running plan: a trial tried on, a variant jumped to.

Optuna cannot reopen a finished trial, and should not: its record stays. To go on where a verdict
stopped, the study gets a new trial that begins with the old one's epochs.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.errors import InputError
from pipeline.plan.judge import best
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.db.db_errors import translate_errors
from pipeline.study.db.storage import Storage
from pipeline.study.names import study_name
from pipeline.study.register import META
from pipeline.study.tables import trials
from pipeline.study.trial_rows import TrialRow, read_board


def enqueue_again(
    sweep: Sweep,
    storage: Storage,
    row: TrialRow,
    history: Sequence[Measurement],
    decision: Mapping[str, Any],
    fill: Callable[[int, str], None],
) -> int:
    """Add a trial that goes on where a finished one ended.

    Args:
        history: the epochs that the new trial begins with.
        decision: who decided it and what is overruled; kept with the trial.
        fill: makes the run directory for the new number and uid, before any launcher can claim.

    Returns:
        The new trial's number.

    Raises:
        InputError: the recipe in the file is another now, or the trial was continued already.
    """
    rdb = storage.rdb
    with storage.lock(), translate_errors(storage):
        _check_continuable(sweep, storage, row)
        study_id = rdb.get_study_id_from_name(study_name(sweep, row.variant))
        trial_id = rdb.create_new_trial(study_id, _template(row, history, decision))
        number, uid = int(rdb.get_trial(trial_id).number), secrets.token_hex(16)
        try:
            fill(number, uid)
        except BaseException:  # else a sampler would hand the half-made trial out
            rdb.set_trial_state_values(trial_id, _failed())
            raise
        top = best(history)
        with storage.engine.begin() as connection:
            connection.execute(
                sa.insert(trials).values(
                    trial_id=trial_id,
                    uid=uid,
                    sweep=sweep.name,
                    variant=row.variant,
                    number=number,
                    recipe_hash=row.recipe_hash,
                    params=dict(row.params),
                    phase="waiting",
                    attempt=0,
                    epoch=history[-1].epoch if history else 0,
                    last_top1=history[-1].top1 if history and history[-1].finite else None,
                    best_top1=top.top1 if top else None,
                    best_epoch=top.epoch if top else None,
                    seconds=0.0,
                    facts={"continues": row.name, **_search(row)},
                )
            )
    return number


def record_manual_start(
    sweep: Sweep, storage: Storage, variants: Sequence[str], signed: Mapping[str, str]
) -> None:
    """Record in the studies of these variants that somebody named them for a launch."""
    rdb = storage.rdb
    with storage.lock(), translate_errors(storage):
        for variant in variants:
            study_id = rdb.get_study_id_from_name(study_name(sweep, variant))
            meta = rdb.get_study_user_attrs(study_id).get(META, {})
            history = [*meta.get("history", []), {**signed, "chosen": "launch --variant"}]
            rdb.set_study_user_attr(study_id, META, {**meta, "history": history})


def record_manual_export(
    sweep: Sweep, storage: Storage, row: TrialRow, signed: Mapping[str, str]
) -> list[dict[str, str]]:
    """Record with a trial, and in its study, that somebody chose it for export by hand.

    Optuna's record of a finished trial is closed, so ours beside it holds this.

    Returns:
        All such choices of this trial so far.
    """
    rdb = storage.rdb
    with storage.lock(), translate_errors(storage):
        rows = read_board(sweep.name, storage)
        facts = next(dict(r.facts) for r in rows if r.trial_id == row.trial_id)
        chosen = [*facts.get("chosen", []), dict(signed)]
        with storage.engine.begin() as connection:
            mine = trials.c.trial_id == row.trial_id
            facts["chosen"] = chosen
            connection.execute(sa.update(trials).where(mine).values(facts=facts))
        study_id = rdb.get_study_id_from_name(study_name(sweep, row.variant))
        meta = rdb.get_study_user_attrs(study_id).get(META, {})
        history = [*meta.get("history", []), {**signed, "exported": row.name}]
        rdb.set_study_user_attr(study_id, META, {**meta, "history": history})
    return chosen


def _check_continuable(sweep: Sweep, storage: Storage, row: TrialRow) -> None:
    study_id = storage.rdb.get_study_id_from_name(study_name(sweep, row.variant))
    meta = storage.rdb.get_study_user_attrs(study_id).get(META, {})
    if row.recipe_hash not in (None, meta.get("recipe_hash")):
        raise InputError(
            f"{row.name} ran another recipe than {sweep.shown_path} has for {row.variant} now. "
            "Change the recipe back to go on with it, or run the new one: pcan sweep launch "
            f"{sweep.name}"
        )
    for other in read_board(sweep.name, storage):
        if other.facts.get("continues") == row.name and not other.superseded:
            raise InputError(
                f"{row.name} is continued as {other.name} already. Run it: pcan sweep launch "
                f"{sweep.name}"
            )


def _search(row: TrialRow) -> dict[str, Any]:
    """Return the mark of a trial of a search, which the one that continues it bears too."""
    return {"search": row.facts["search"]} if row.facts.get("search") else {}


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _template(row: TrialRow, history: Sequence[Measurement], decision: Mapping[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": dict(row.params)},
        user_attrs={"recipe_hash": row.recipe_hash, "continues": row.name, **decision},
        intermediate_values={m.epoch: m.top1 for m in history if m.epoch > 0 and m.finite},
    )
