"""Halving and the ladder at a check: who goes on, and in which words."""

import math

import pytest

from pipeline.plan.gates import Gate
from pipeline.plan.judge import Rules, judge
from pipeline.plan.search.rules import (
    AsyncHalving,
    NoRule,
    Reachability,
    Rung,
    SyncHalving,
    TrialProgress,
    make_rule,
)
from pipeline.plan.search.rung_judge import RungRules
from pipeline.plan.sweep import Patience, Search
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.measurement import Measurement

FOURTEEN = {
    n: value / 1000 for n, value in enumerate([*range(630, 700, 10), *range(616, 609, -1)])
}


def curve(*top1s: float, loss: float | None = None) -> list[Measurement]:
    return [Measurement(epoch=e, top1=v, loss=loss) for e, v in enumerate(top1s, 1)]


@pytest.mark.parametrize(
    ("epochs", "checks"), [(30, (4, 8, 15)), (50, (7, 13, 25)), (8, (1, 2, 4)), (2, (1,)), (1, ())]
)
def test_the_checks_lie_at_an_eighth_a_quarter_and_a_half(epochs: int, checks) -> None:
    assert AsyncHalving(epochs).checks == checks


def test_a_third_is_not_moved_by_rounding() -> None:
    assert AsyncHalving(30, at=(1 / 6, 1 / 3, 1 / 2)).checks == (5, 10, 15)


def test_the_decision_is_one_sentence() -> None:
    field = Rung({**FOURTEEN, 20: 0.612})
    del field.readings[7]  # fourteen with the one that is judged
    decision = AsyncHalving(60).decide(8, 20, field)
    assert decision.kind is VerdictKind.PRUNE
    assert decision.reason == (
        "epoch 8: best so far 61.2, rank 11 of 14 that reached epoch 8, 7 go on, cut 63.0"
    )


def test_figures_that_look_equal_get_more_digits() -> None:
    decision = AsyncHalving(30).decide(4, 1, Rung({0: 0.63004, 1: 0.63001}))
    assert "best so far 63.0010, rank 2 of 2" in decision.reason
    assert decision.reason.endswith("cut 63.0040")


def test_the_first_to_get_there_goes_on_and_ties_do() -> None:
    rule = AsyncHalving(30)
    assert rule.decide(4, 0, Rung({0: 0.1})).kind is VerdictKind.GO
    assert rule.decide(4, 1, Rung({0: 0.5, 1: 0.5, 2: 0.5, 3: 0.1})).kind is VerdictKind.GO


def test_a_ladder_waits_for_everybody_and_then_takes_exactly_half() -> None:
    rule = SyncHalving(30, least=1)
    bests = dict.fromkeys(range(8), 0.5)
    waiting = rule.decide(4, 3, Rung(bests, to_come=1))
    assert (
        waiting.kind is VerdictKind.PAUSE
        and "paused until 1 other got there too" in waiting.reason
    )
    kinds = [rule.decide(4, n, Rung(bests)).kind for n in bests]
    assert kinds == [VerdictKind.GO] * 4 + [VerdictKind.PRUNE] * 4


def test_at_least_three_finish_a_ladder() -> None:
    rule = SyncHalving(30)
    kinds = [rule.decide(15, n, Rung({n: 0.5 + n / 100 for n in range(4)})).kind for n in range(4)]
    assert kinds.count(VerdictKind.GO) == 3
    assert rule.decide(15, 0, Rung({0: 0.1, 1: 0.2})).kind is VerdictKind.GO


def test_trials_that_ended_on_the_way_do_not_tighten_a_ladder() -> None:
    rule = SyncHalving(30, least=1)
    bests = {n: n / 10 for n in range(4)}
    assert rule.decide(4, 1, Rung(bests)).kind is VerdictKind.PRUNE
    assert rule.decide(4, 1, Rung(bests, lost=2)).kind is VerdictKind.GO


def test_the_field_of_a_check() -> None:
    rule = SyncHalving(30)
    standings = [
        TrialProgress(0, 8, {4: 0.6, 8: 0.7}, Reachability.OPEN),
        TrialProgress(1, 4, {4: 0.5}, Reachability.OPEN),
        TrialProgress(2, 6, {4: 0.4}, Reachability.ENDED),  # failed between the two checks
        TrialProgress(3, 4, {4: 0.1}, Reachability.OUT),  # stopped at the first
        TrialProgress(4, 2, {}, Reachability.ENDED),
    ]
    assert rule.field(standings, 8, undrawn=2) == Rung({0: 0.7}, to_come=3, lost=1)
    assert rule.field(standings, 4) == Rung({0: 0.6, 1: 0.5, 2: 0.4, 3: 0.1}, 0, lost=1)


def searching(field: Rung | None, rule=None, passed: frozenset[int] = frozenset()) -> Rules:
    return Rules(
        gates=(Gate(epoch=1, floor=0.88),),
        patience=Patience(epochs=3, min_delta=0.0005),
        search=RungRules(
            rule=rule or AsyncHalving(16), number=9, field=lambda _: field, passed=passed
        ),
    )


def test_the_plans_floor_only_warns_in_a_search() -> None:
    verdict = judge(curve(0.5), searching(Rung({})))
    assert verdict.kind is VerdictKind.WATCH and not verdict.stops
    assert "under the floor 88.00 % (below plan; in a search" in verdict.reason
    assert judge(curve(0.5), Rules(gates=(Gate(epoch=1, floor=0.88),))).state == "PRUNED"


def test_a_warning_at_a_check_is_reported_with_it() -> None:
    rules = searching(Rung({0: 0.1}), AsyncHalving(8))
    verdict = judge(curve(0.5), rules)
    assert verdict.kind is VerdictKind.GO and verdict.rule == "epoch 1 halving"
    assert "cut 50.0; top-1 50.00 % is under the floor 88.00 % (below plan" in verdict.reason


def test_the_best_so_far_is_compared_not_the_last() -> None:
    verdict = judge(curve(0.9, 0.1), searching(Rung({0: 0.5, 1: 0.6})))
    assert (verdict.kind, verdict.rule) == (VerdictKind.GO, "epoch 2 halving")
    assert "rank 1 of 3" in verdict.reason
    assert judge(curve(0.1, 0.2), searching(Rung({0: 0.5, 1: 0.6}))).state == "PRUNED"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_guard_comes_before_every_rule(bad: float) -> None:
    lost = judge(curve(0.9, 0.9, loss=bad), searching(Rung({0: 0.99})))
    assert (lost.state, lost.cause, lost.rule) == ("FAIL", "nan", "non-finite loss")
    assert judge(curve(0.9, bad), searching(Rung({0: 0.99}))).cause == "nan"


def test_patience_comes_behind_and_keeps_the_trial() -> None:
    rules = searching(Rung({0: 0.1}))
    verdict = judge(curve(0.9, 0.8, 0.8, 0.8), rules)
    assert (verdict.state, verdict.cause) == ("COMPLETE", "patience")
    stopped = judge(curve(0.9, 0.8, 0.8, 0.8), searching(Rung({0: 0.95, 1: 0.96})))
    assert stopped.cause == "halving"


def test_a_pause_ends_the_job_but_not_the_trial() -> None:
    verdict = judge(curve(0.9, 0.9), searching(Rung({0: 0.1}, to_come=2), SyncHalving(16)))
    assert verdict.stops and verdict.state is None
    assert (verdict.kind, verdict.cause) == (VerdictKind.PAUSE, "paused")


def test_what_was_let_through_is_not_decided_again_and_what_was_missed_is() -> None:
    better = Rung({0: 0.99, 1: 0.98})
    assert not judge(curve(0.5, 0.6, 0.7), searching(better, passed=frozenset({2}))).stops
    late = judge(curve(0.5, 0.6, 0.995), searching(better))
    assert late.state == "PRUNED" and late.rule == "epoch 2 halving" and late.epoch == 3
    assert not judge(curve(0.5, 0.6), searching(None)).stops  # not known: asked again


def test_the_last_epoch_is_never_stopped_by_the_rule() -> None:
    rule = AsyncHalving(2)
    assert not judge(curve(0.5, 0.6), searching(Rung({0: 0.99, 1: 0.9}), rule)).stops


def test_the_file_chooses_the_rule() -> None:
    assert make_rule(Search(rule="ladder", finish=2), 8) == SyncHalving(8, least=2, averaged=True)
    assert Search.model_validate({"rule": "sync_halving"}) == Search(rule="ladder")
    assert make_rule(Search(rule="halving", read="best"), 8) == AsyncHalving(8)
    assert make_rule(Search(rule="none"), 8).checks == () == NoRule(8).checks
