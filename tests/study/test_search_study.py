"""A search in the storage: what is drawn, what is known, who may go on."""

import dataclasses
import math
from pathlib import Path

import optuna
import pytest

from pipeline.plan.read import read_sweep
from pipeline.plan.search.rules import AsyncHalving, Reachability, SyncHalving
from pipeline.plan.sweep import Search, Sweep
from pipeline.report.plan.search_estimate import search_record, search_text
from pipeline.shared.measurement import AVERAGED, Measurement
from pipeline.study.claim import ClaimRequest, claim, claim_to_prune
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.import_trials import ORIGIN, PriorTrial, import_prior, outside_space
from pipeline.study.lease import Lease
from pipeline.study.owner import this_process
from pipeline.study.register import recipe_of, register
from pipeline.study.sampler import SamplerOptions
from pipeline.study.searches import as_begun
from pipeline.study.trial_curves import read_standings
from pipeline.study.trial_rows import read_board

TEXT = """\
name: s
config: c.py
objective: {metric: acc/top1}
variants:
  base:
    set: {lr: 1e-3, opt: sgd, momentum: 0.9}
    space:
      lr: {low: 1e-4, high: 1e-2, log: true}
      opt: {choices: [sgd, adam]}
      momentum: {low: 0.5, high: 0.99, when: {opt: sgd}}
  other: {like: base, set: {lr: 2e-3}}
  far: {like: base, set: {lr: 5e-3}, space: {}}
ladder: {start: base}
search: {rule: ladder}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "s.yaml").write_text(TEXT)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


@pytest.fixture
def storage(tmp_path: Path, sweep: Sweep):
    storage = open_storage(None, tmp_path / "runs")
    register(sweep, storage, {name: recipe_of(v, "h") for name, v in sweep.variants.items()})
    yield storage
    storage.close()


def wanted(trials: int, going_on: frozenset[int] = frozenset(), **more) -> list[ClaimRequest]:
    search = SamplerOptions(seed=0, going_on=going_on, **more)
    return [ClaimRequest(variant="base", trials=trials, recipe_hash="h", search=search)]


def drawn(sweep: Sweep, storage: Storage, trials: int, **more) -> Lease:
    lease = claim(sweep, storage, wanted(trials, **more))
    assert lease is not None
    return lease


def curve(*top1s: float) -> list[Measurement]:
    return [Measurement(epoch=e, top1=v) for e, v in enumerate(top1s, 1)]


def pause(lease: Lease, *top1s: float) -> None:
    lease.report(curve(*top1s), [])
    lease.release("paused", cause="paused", reason="r", seconds=1.0)


def end(lease: Lease, state: str, *top1s: float, cause: str | None = None) -> None:
    lease.tell(state, curve(*top1s), cause=cause, reason="r", verdicts=[], seconds=1.0)


def test_a_search_and_a_launch_leave_each_others_trials_alone(sweep, storage) -> None:
    mine = drawn(sweep, storage, 1)
    assert mine.searched and mine.number == 1
    mine.release("interrupted", cause=None, reason="r", seconds=0)
    plan = [ClaimRequest(variant="base", trials=1, recipe_hash="h")]
    recipe = claim(sweep, storage, plan)
    assert recipe is not None and recipe.number == 0 and not recipe.searched
    end(recipe, "COMPLETE", 0.5)
    assert claim(sweep, storage, plan) is None
    assert drawn(sweep, storage, 1).number == 1  # the interrupted one, no second is drawn


def test_a_paused_trial_is_claimed_only_when_it_may_go_on(sweep, storage) -> None:
    lease = drawn(sweep, storage, 1)
    pause(lease, 0.5)
    assert claim(sweep, storage, wanted(1)) is None
    again = claim(sweep, storage, wanted(1, frozenset({lease.trial_id})))
    assert again is not None and again.number == lease.number and again.attempt == 2


def test_a_beaten_trial_is_ended_and_survives_a_kill_as_paused(sweep, storage) -> None:
    lease = drawn(sweep, storage, 1)
    pause(lease, 0.5)
    dead = dataclasses.replace(this_process(), proc_start=1)
    assert claim_to_prune(sweep, storage, lease.trial_id, me=dead) is not None
    row = next(r for r in read_board("s", storage) if r.trial_id == lease.trial_id)
    assert (row.phase, row.attempt) == ("paused", 1)
    second = claim_to_prune(sweep, storage, lease.trial_id)
    assert second is not None
    assert claim_to_prune(sweep, storage, lease.trial_id) is None  # a living owner has it
    end(second, "PRUNED", 0.5, cause="ladder")
    assert claim_to_prune(sweep, storage, lease.trial_id) is None


def test_conditions_are_kept_and_draws_repeat(sweep, storage, tmp_path: Path) -> None:
    leases = [drawn(sweep, storage, n) for n in range(1, 13)]
    assert {lease.params["opt"] for lease in leases} == {"sgd", "adam"}
    assert all(("momentum" in x.params) == (x.params["opt"] == "sgd") for x in leases)
    other = open_storage(None, tmp_path / "again")
    register(sweep, other, {name: recipe_of(v, "h") for name, v in sweep.variants.items()})
    first = [drawn(sweep, other, n).params for n in range(1, 6)]
    other.close()
    assert first == [lease.params for lease in leases[:5]]


def test_a_recipe_that_nobody_ran_comes_first(sweep, storage) -> None:
    first = {"lr": 1e-3, "opt": "adam", "momentum": 0.9}
    lease = drawn(sweep, storage, 1, first=first)
    assert lease.params == {"lr": 1e-3, "opt": "adam"}
    beside = drawn(sweep, storage, 2, first=first)  # by another slot that saw no trial either
    assert beside.params["lr"] != 1e-3


def test_tpe_learns_from_paused_and_diverged_trials(sweep, storage, monkeypatch) -> None:
    pause(drawn(sweep, storage, 1), 0.4, 0.6)
    end(drawn(sweep, storage, 2), "FAIL", 0.3, cause="nan")
    seen: list[optuna.trial.FrozenTrial] = []
    sampler = optuna.samplers.TPESampler.sample_independent

    def look(self, study, trial, name, distribution):
        seen[:] = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
        return sampler(self, study, trial, name, distribution)

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_independent", look)
    drawn(sweep, storage, 3)
    assert [t.intermediate_values for t in seen] == [{1: 0.4, 2: 0.6}, {}]


def test_the_plans_recipes_become_known_once(sweep, storage) -> None:
    plan = [ClaimRequest(variant="other", trials=1, recipe_hash="h")]
    lease = claim(sweep, storage, plan)
    assert lease is not None
    end(lease, "COMPLETE", 0.4, 0.8, 0.7)
    row = next(r for r in read_board("s", storage) if r.name == "other/0")
    known = [PriorTrial(row=row, values={"lr": 2e-3, "opt": "adam", "momentum": 0.9})]
    assert import_prior(sweep, storage, "base", known) == ["other/0"]
    assert import_prior(sweep, storage, "base", known) == []
    study = optuna.load_study(study_name="s/base", storage=storage.rdb)
    (found,) = [t for t in study.trials if t.user_attrs.get(ORIGIN)]
    assert (found.value, found.params) == (0.8, {"lr": 2e-3, "opt": "adam"})
    standings = read_standings(sweep, "base", AsyncHalving(8), storage)
    (one,) = [s for s in standings if s.epoch]
    assert one.readings == {1: 0.4, 2: 0.8} and one.reachability is Reachability.OUT
    assert claim(sweep, storage, wanted(0)) is None  # never run again


def test_what_lies_outside_the_space_is_named(sweep: Sweep) -> None:
    assert outside_space(sweep, "base", {"lr": 0.5}) == "lr = 0.5 is outside the searched range"
    assert outside_space(sweep, "base", {"lr": 1e-3, "opt": "adam"}) is None


def test_how_far_everybody_is(sweep, storage) -> None:
    pause(drawn(sweep, storage, 1), 0.5, 0.4)
    end(drawn(sweep, storage, 2), "FAIL", 0.6, math.nan, cause="nan")
    end(drawn(sweep, storage, 3), "PRUNED", 0.1, cause="ladder")
    drawn(sweep, storage, 4)
    found = {s.number: s for s in read_standings(sweep, "base", SyncHalving(8), storage)}
    assert found[0].reachability is Reachability.OUT  # the plan's recipe
    assert (found[1].readings, found[1].reachability) == ({1: 0.5, 2: 0.5}, Reachability.OPEN)
    assert (found[2].readings, found[2].reachability) == ({1: 0.6}, Reachability.ENDED)
    assert (found[3].readings, found[3].reachability) == ({1: 0.1}, Reachability.OUT)
    assert (found[4].epoch, found[4].reachability) == (0, Reachability.OPEN)


def test_the_averaged_value_ranks_trials_and_is_not_reported_elsewhere(sweep, storage) -> None:
    rule = SyncHalving(8, averaged=True)
    first, second = drawn(sweep, storage, 2), drawn(sweep, storage, 2)
    values = curve(0.4, 0.5, 0.5)
    read = dataclasses.replace(values[2], extra={AVERAGED: 0.7})
    first.report([*values[:2], read], [])
    first.release("paused", cause="paused", reason="r", seconds=1.0)
    pause(second, 0.4, 0.6, 0.5)
    found = {one.number: one.readings for one in read_standings(sweep, "base", rule, storage)}
    assert (found[first.number], found[second.number]) == ({3: 0.7}, {3: 0.6})
    rows = {row.number: row for row in read_board("s", storage)}
    assert rows[first.number].averaged == {3: 0.7} and rows[first.number].best_top1 == 0.5
    assert rows[first.number].facts["read"] == "averaged"
    study = optuna.load_study(study_name="s/base", storage=storage.rdb)
    assert max(study.trials[first.number].intermediate_values.values()) == 0.5


def finish(sweep: Sweep, storage: Storage, count: int) -> None:
    """End trials of 8 epochs, the better the worse they begin; all but the first have readings."""
    for n in range(count):
        values = curve(*[0.5 - 0.02 * n] * 7, 0.5 + 0.04 * n)
        if n:
            values[2:4] = [dataclasses.replace(m, extra={AVERAGED: m.top1}) for m in values[2:4]]
            values[3] = dataclasses.replace(values[3], extra={AVERAGED: 0.5 + 0.01 * n})
        reported = {"cause": None, "reason": "r", "verdicts": [], "seconds": 1.0}
        drawn(sweep, storage, count).tell("COMPLETE", values, **reported)


def search_record_of(sweep: Sweep, storage: Storage, **changed) -> dict:
    sweep = sweep.model_copy(update={"search": sweep.search.model_copy(update=changed)})
    rows = read_board("s", storage)
    return search_record(sweep, "base", {"max_epochs": 8}, storage, rows, trials=8)


@pytest.mark.parametrize(("count", "measured"), [(7, False), (9, True)])
def test_a_plan_says_which_curves_it_used(sweep, storage, count: int, measured: bool) -> None:
    finish(sweep, storage, count)
    record = search_record_of(sweep, storage)
    found = {"measured": measured, "count": count, "averaged": count - 1}
    assert record["curves"] == (found if measured else {**found, "count": 200, "averaged": 0})
    assert all((one["loss"] is not None) is measured for one in record["rules"])
    said = (
        f"from {count} complete curves of this storage ({count - 1} of them have values of"
        if measured
        else "from made-up reference shapes, since this storage has fewer than 8 complete"
    )
    assert said in search_text(record)


def test_a_plans_losses_are_those_of_the_storages_curves_by_what_is_read(sweep, storage) -> None:
    finish(sweep, storage, 9)
    rule = {"at": (0.5,), "finish": 1, "keep": 0.1}
    averaged, best = (
        {one["rule"]: one for one in search_record_of(sweep, storage, read=read, **rule)["rules"]}
        for read in ("averaged", "best")
    )
    assert averaged["ladder"]["loss"] == pytest.approx(0)
    assert best["ladder"]["loss"] > 0.2 and best["none"]["loss"] == 0
    assert averaged["ladder"]["beats_whole"] and not best["ladder"]["beats_whole"]


def test_a_search_begun_by_the_best_so_far_goes_on_by_it() -> None:
    old = {"search": "halving", "epochs": 8}
    kept = as_begun(Search(), old)
    assert (kept.rule, kept.read) == ("halving", "best")
    named = as_begun(Search(rule="ladder", read="averaged"), old)
    assert (named.rule, named.read) == ("ladder", "averaged")
    new = {"search": "ladder", "read": "averaged"}
    assert as_begun(Search(), new) == as_begun(Search(), None) == Search()
