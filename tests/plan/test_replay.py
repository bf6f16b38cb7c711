"""Replay: the judge on a run that is over, and what it would have saved."""

import math

import pytest

from pipeline.plan.replay import replay, with_best_known
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement


def curve(*top1: float) -> list[Measurement]:
    return [Measurement(epoch=i, top1=v) for i, v in enumerate(top1, start=1)]


def test_a_good_run_is_not_stopped(plan: Sweep) -> None:
    values = [0.886 + 0.001 * e for e in range(30)]
    result = replay(plan, plan.variants["baseline"], curve(*values), epochs_logged=30)
    assert (result.stopped_epoch, result.stopped_by, result.next) == (None, None, None)
    assert (result.epochs_saved, result.gpu_hours_saved) == (0, 0.0)
    assert len(result.verdicts) == 30


def test_patience_completes_a_run_and_ends_the_ladder(plan: Sweep) -> None:
    values = [0.89, 0.896, *[0.895] * 20]
    result = replay(plan, plan.variants["baseline"], curve(*values), epochs_logged=22)
    assert (result.stopped_by, result.stopped_epoch, result.next) == ("patience", 17, None)
    assert result.gpu_hours_saved == 2.5


def test_a_nan_loss_between_validations_stops_it_there(plan: Sweep) -> None:
    history = curve(0.89, 0.891, math.nan)
    result = replay(plan, plan.variants["baseline"], history, epochs_logged=8, nan_epoch=3)
    assert (result.stopped_epoch, result.stopped_by, result.next) == (3, "nan", "lr-0.001")
    assert result.record()["verdicts"][-1]["top1"] is None  # JSON knows no NaN


def test_a_nan_metric_stops_it_too(plan: Sweep) -> None:
    result = replay(plan, plan.variants["baseline"], curve(0.89, math.nan), epochs_logged=2)
    assert (result.stopped_by, result.next) == ("nan", "lr-0.001")


def test_a_gate_without_its_validation_is_named(plan: Sweep) -> None:
    every_fifth = [Measurement(epoch=e, top1=0.9) for e in range(5, 31, 5)]
    result = replay(plan, plan.variants["baseline"], every_fifth, epochs_logged=30)
    assert result.silent_gates == (1,)


def test_another_best_known_moves_its_gate_and_its_rule_alone(plan: Sweep) -> None:
    moved = with_best_known(plan, 0.5)
    gates = [(g.epoch, g.floor) for g in moved.variants["baseline"].gates]
    assert gates == [(1, 0.88), (5, None), (10, 0.5)]
    assert [rule.below for rule in moved.ladder.after] == [0.87, 0.88, None, 0.5, None]


@pytest.mark.parametrize("variant", ["scratch", "legacy"])
def test_variants_without_gates_are_judged_by_patience_alone(plan: Sweep, variant: str) -> None:
    result = replay(plan, plan.variants[variant], curve(*[0.3] * 40), epochs_logged=40)
    patience = plan.variants[variant].patience
    assert patience is not None
    assert (result.stopped_by, result.stopped_epoch) == ("patience", patience.epochs + 1)
