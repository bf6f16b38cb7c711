"""What a rule reads at a check: the averaged weights or the best so far, whichever is greater."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.plan.judge import Rules, judge
from pipeline.plan.search.cost_estimate import MeasuredCurve, at_same_cost, estimate
from pipeline.plan.search.rules import AsyncHalving, Rung, SyncHalving, make_rule
from pipeline.plan.search.rung_judge import RungRules, read_at
from pipeline.plan.search.simulate import LearningCurve, simulate
from pipeline.plan.sweep import Patience, Search
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.measurement import AVERAGED, Measurement, best_trained
from replayed_sweeps import sweeps


def ladder(epochs: int) -> SyncHalving:
    return SyncHalving(epochs, averaged=True)


def curve(*top1s: float, averaged: float | None = None, at: int = 0) -> list[Measurement]:
    extra = {} if averaged is None else {AVERAGED: averaged}
    return [
        Measurement(epoch=e, top1=v, extra=extra if e == at else {})
        for e, v in enumerate(top1s, 1)
    ]


@pytest.mark.parametrize(
    ("epochs", "checks"),
    [(2, ()), (3, ()), (8, (3, 4)), (12, (3, 6)), (20, (3, 5, 10)), (30, (4, 8, 15))],
)
def test_a_mean_of_one_or_two_epochs_is_never_read(epochs: int, checks) -> None:
    assert ladder(epochs).checks == AsyncHalving(epochs, averaged=True).checks == checks


def test_the_best_so_far_alone_keeps_its_early_checks() -> None:
    assert make_rule(Search(read="best"), 8).checks == (1, 2, 4)
    assert make_rule(Search(), 8) == SyncHalving(8, averaged=True)
    assert make_rule(Search(rule="halving"), 8) == AsyncHalving(8, averaged=True)


def test_the_greater_of_both_is_read() -> None:
    rule = ladder(30)
    low = curve(0.5, 0.6, 0.4, 0.3, averaged=0.7, at=4)
    assert read_at(low, 4, rule).value == 0.7
    assert read_at(curve(0.5, 0.8, 0.4, 0.3, averaged=0.7, at=4), 4, rule).value == 0.8
    assert read_at(low, 4, SyncHalving(30)).value == 0.6


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_without_a_finite_average_the_best_so_far_counts(value: float | None) -> None:
    found = read_at(curve(0.5, 0.6, 0.4, 0.3, averaged=value, at=4), 4, ladder(30))
    assert (found.value, found.averaged) == (0.6, None)


def test_the_sentence_names_both_values() -> None:
    others = {n: value for n, value in enumerate([0.7, 0.65, *[0.5] * 9])}
    rules = Rules(search=RungRules(rule=ladder(30), number=20, field=lambda _: Rung(others)))
    verdict = judge(curve(0.5, 0.604, 0.6, 0.6, averaged=0.631, at=4), rules)
    assert verdict.kind is VerdictKind.GO and verdict.reading == 0.631
    assert verdict.reason == (
        "epoch 4: averaged 63.1, best so far 60.4, rank 3 of 12 that reached epoch 4, 6 go on, "
        "cut 50.0"
    )


def test_of_equal_readings_the_lower_number_goes_on() -> None:
    rule, field = ladder(30), Rung(dict.fromkeys(range(8), 0.5))
    kinds = [rule.decide(4, number, field).kind for number in range(8)]
    assert kinds == [VerdictKind.GO] * 4 + [VerdictKind.PRUNE] * 4


def test_an_average_is_neither_a_result_nor_counted_by_patience() -> None:
    history = curve(0.6, 0.5, 0.5, 0.5, averaged=0.9, at=3)
    assert best_trained(history).top1 == 0.6
    verdict = judge(history, Rules(patience=Patience(epochs=3, min_delta=0.001)))
    assert (verdict.state, verdict.threshold) == ("COMPLETE", 0.601)


def test_nothing_is_read_where_no_trial_can_be_stopped() -> None:
    assert [ladder(30).may_stop(n) for n in (1, 3, 4, 20)] == [False, False, True, True]
    assert not make_rule(Search(rule="none"), 30).may_stop(20)
    assert not ladder(2).may_stop(20)


def test_a_reading_costs_a_fifth_of_an_epoch_wherever_a_trial_is_checked() -> None:
    curves = [LearningCurve.of([0.1 * n] * 8) for n in range(1, 5)]
    done = simulate(curves, ladder(8))
    assert done.trained == (3, 8, 8, 8)
    assert done.cost == pytest.approx((27 + 0.2 * 7) / 32)


def test_a_late_riser_survives_by_its_average() -> None:
    rows = [[0.5] * 8, [0.6] * 8, [0.7] * 8, [0.1] * 7 + [0.9]]
    plain = [LearningCurve.of(row) for row in rows]
    read = [*plain[:3], LearningCurve.of(rows[3], averaged={3: 0.8, 4: 0.8})]
    assert simulate(plain, ladder(8)).regret == pytest.approx(0.2)
    assert simulate(read, ladder(8)).regret == 0.0


def test_the_bar_is_as_many_epochs_on_whole_trials() -> None:
    curves = [LearningCurve.of([0.5] * 8), LearningCurve.of([0.6] * 8)] * 4
    found = [simulate(curves, SyncHalving(8))] * 2
    bar = at_same_cost([curves, curves], found)
    assert bar.trials == pytest.approx(8 * found[0].cost)
    assert (bar.loss, bar.beaten) == (0.0, False)


def test_an_estimate_says_whether_a_rule_beats_whole_trials() -> None:
    late = [MeasuredCurve([0.9 - 0.02 * n] * 8 if n else [0.1] * 7 + [0.95]) for n in range(20)]
    ranked = [MeasuredCurve([0.5 + 0.02 * n] * 8) for n in range(20)]
    for curves, beats in ((late, False), (ranked, True)):
        found = {one.rule: one for one in estimate(Search(), curves, 12, None)}
        assert found["ladder"].whole.beaten is beats
        assert found["none"].whole.trials == 12 and found["none"].whole.gain == 0


def finetune_files(kind: str) -> list[Path]:
    root = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("PCAN_DATA") or root.parent / "shared" / "data")
    files = sorted((data / "finetune_curves").glob(f"*_{kind}.npz"))
    if not files:
        pytest.skip(f"real fine-tuning curves absent: {data}/finetune_curves (set PCAN_DATA)")
    return files


def finetuned(file: Path) -> list[LearningCurve]:
    """Return the curves of the first seed, with the mean over the later half of the epochs."""
    with np.load(file) as content:
        raw, averaged = content["raw"][0], content["avg"][:, :, 1]
        looks, clips = content["looks"].tolist(), int(content["count"])
    values = [np.where(one < 0, np.nan, one / clips).tolist() for one in (raw, averaged)]
    return [
        LearningCurve.of(row, averaged=dict(zip(looks, read, strict=True)))
        for row, read in zip(*values, strict=True)
    ]


def replayed(kind: str, rule, trials: int, count: int) -> tuple[float, float, float]:
    """Return the share of the epochs, the points lost and the misses, mean over the tasks."""
    found = [sweeps(finetuned(file), rule, trials, count) for file in finetune_files(kind)]
    flat = [one for task in found for one in task]
    loss = 100 * sum(one.regret for one in flat) / len(flat)
    misses = sum(one.missed for one in flat) / len(flat)
    return sum(one.cost for one in flat) / len(flat), loss, misses


def test_the_averaged_ladder_loses_little_when_fine_tuning() -> None:
    cost, loss, misses = replayed("30", ladder, 20, 12)
    assert cost <= 0.36 and loss <= 0.25 and misses <= 0.12, (cost, loss, misses)
    assert replayed("30", SyncHalving, 20, 12)[1] > 2 * loss


@pytest.mark.slow
@pytest.mark.parametrize("trials", [20, 12])
@pytest.mark.parametrize("kind", ["30", "8"])
def test_the_rules_on_real_fine_tunings(kind: str, trials: int) -> None:
    rules = {
        "ladder, best": SyncHalving,
        "ladder, averaged": ladder,
        "halving, best": AsyncHalving,
        "halving, averaged": lambda epochs: AsyncHalving(epochs, averaged=True),
    }
    found = {name: replayed(kind, rule, trials, 300) for name, rule in rules.items()}
    for name, (cost, loss, misses) in found.items():
        print(f"{trials} trials of {kind}, {name}: {cost:.1%}, {loss:.2f} points, {misses:.1%}")
    if (kind, trials) == ("30", 20):
        cost, loss, misses = found["ladder, averaged"]
        assert cost <= 0.36 and loss <= 0.25 and misses <= 0.12
    assert found["ladder, averaged"][1] < found["ladder, best"][1]
