"""Overruled verdicts: the named one no longer stops, every other rule still does."""

import dataclasses
import math

import pytest

from pipeline.plan.gates import Gate
from pipeline.plan.judge import Rules, judge
from pipeline.plan.search.rules import AsyncHalving
from pipeline.plan.search.rung_judge import RungRules
from pipeline.plan.sweep import Patience
from pipeline.plan.verdict import NON_FINITE_RULES, VerdictKind
from pipeline.shared.measurement import Measurement

RULES = Rules(gates=(Gate(epoch=1, floor=0.88), Gate(epoch=2, floor=0.89)))
PATIENT = Rules(patience=Patience(epochs=2, min_delta=0.001))


def course(*top1: float) -> list[Measurement]:
    return [Measurement(epoch=e, top1=value) for e, value in enumerate(top1, start=1)]


def with_(rules: Rules, *overruled: tuple[int, str]) -> Rules:
    return dataclasses.replace(rules, overruled=overruled)


def test_an_overruled_gate_is_watched_instead() -> None:
    assert judge(course(0.87), RULES).stops
    verdict = judge(course(0.87), with_(RULES, (1, "epoch 1 floor")))
    assert verdict.kind is VerdictKind.WATCH and not verdict.stops
    assert verdict.reason == "epoch 1: top-1 87.00 % is under the floor 88.00 % (overruled)"


def test_the_next_gate_still_stops() -> None:
    verdict = judge(course(0.87, 0.88), with_(RULES, (1, "epoch 1 floor")))
    assert verdict.stops and verdict.rule == "epoch 2 floor"


def test_overruled_patience_counts_again() -> None:
    assert judge(course(0.9, 0.9, 0.9), PATIENT).rule == "patience"
    rules = with_(PATIENT, (3, "patience"))
    assert not judge(course(0.9, 0.9, 0.9), rules).stops
    assert not judge(course(0.9, 0.9, 0.9, 0.9), rules).stops
    assert judge(course(0.9, 0.9, 0.9, 0.9, 0.9), rules).stops


def test_another_rule_of_the_same_epoch_still_stops() -> None:
    rules = dataclasses.replace(PATIENT, gates=(Gate(epoch=3, floor=0.95),))
    verdict = judge(course(0.9, 0.9, 0.9), with_(rules, (3, "epoch 3 floor")))
    assert verdict.stops and verdict.rule == "patience"


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_value_that_is_not_finite_cannot_be_overruled(epoch: int) -> None:
    rules = with_(RULES, (epoch, "non-finite metric"), (epoch, "non-finite loss"))
    verdict = judge([Measurement(epoch=epoch, top1=math.nan)], rules)
    assert verdict.stops and verdict.is_final and verdict.cause == "nan"


def test_neither_can_a_loss_that_is_not_finite_in_a_search() -> None:
    search = RungRules(rule=AsyncHalving(8), number=0, field=lambda _: None)
    rules = dataclasses.replace(RULES, search=search, overruled=((1, "non-finite loss"),))
    verdict = judge([Measurement(epoch=1, top1=0.9, loss=math.inf)], rules)
    assert verdict.stops and verdict.rule in NON_FINITE_RULES
