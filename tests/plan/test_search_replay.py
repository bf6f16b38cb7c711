"""Replays of the complete UTD curves kept in benchmarks/results: the figures of docs/search.md."""

import json
import math
import random
from pathlib import Path

import pytest
from scipy import stats

from benchmarks.search_replay import (
    PATIENCE,
    TRIALS,
    CompleteRun,
    corrected,
    gain_line,
    read_seeds,
    replay,
    rules,
)
from pipeline.plan.search.simulate import LearningCurve

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
KEPT = {epochs: RESULTS / f"utd_curves_{epochs}.json" for epochs in (8, 30)}


@pytest.mark.parametrize("epochs", KEPT)
def test_kept_trials_are_complete_and_read_at_every_check(epochs: int) -> None:
    content = json.loads(KEPT[epochs].read_text())
    read_at = set(map(str, content["read_at"]))
    assert [seed["seed"] for seed in content["seeds"]] == [0, 1, 2]
    for seed in content["seeds"]:
        assert len(seed["trials"]) > TRIALS and seed["clips"] == 127
        for trial in seed["trials"]:
            assert len(trial["top1"]) == content["epochs"] == epochs
            assert set(trial["averaged"]) == read_at
            values = [*trial["top1"], *trial["averaged"].values()]
            assert all(abs(127 * value - round(127 * value)) < 1e-3 for value in values)


def test_the_averaged_value_is_another_than_the_best_so_far() -> None:
    runs = [run for seed in read_seeds(KEPT[8]) for run in seed]
    higher = [run for run in runs if run.curve.averaged[3] > run.curve.bests[2]]
    assert 0.3 < len(higher) / len(runs) < 0.9


@pytest.mark.parametrize(
    ("epochs", "trials", "name", "share", "lost", "whole"),
    [
        (8, TRIALS, "ladder, averaged", 0.625, 4.54, 1.70),
        (8, TRIALS, "halving, averaged", 0.742, 3.64, 1.06),
        (8, TRIALS, "ladder, best", 0.4125, 6.52, 2.81),
        (30, TRIALS, "ladder, averaged", 0.432, 0.865, 1.366),
        (30, TRIALS, "ladder, best", 0.4166, 2.340, 1.415),
        (30, 12, "ladder, averaged", 0.395, 1.085, 1.712),
    ],
)
def test_the_manuals_figures(epochs, trials, name, share, lost, whole) -> None:
    seeds = read_seeds(KEPT[epochs], PATIENCE)
    found = [replay(runs, rules(epochs)[name], trials) for runs in seeds]

    def mean(values) -> float:
        return sum(values) / len(found)

    assert mean(one.cost for one in found) == pytest.approx(share, abs=0.0005)
    assert mean(one.loss for one in found) == pytest.approx(lost, abs=0.005)
    assert 100 * mean(one.whole.loss for one in found) == pytest.approx(whole, abs=0.005)


def test_a_gain_line_is_scipys_regression_and_never_below_nothing() -> None:
    rng = random.Random(0)
    known = [(10 ** rng.uniform(-3, 0), rng.uniform(-0.1, 0.3)) for _ in range(8)]
    line = gain_line(known)
    assert line is not None
    fitted = stats.linregress([math.log(lr) for lr, _ in known], [gain for _, gain in known])
    for lr in (1e-4, 0.02, 0.9):
        wanted = max(0.0, fitted.intercept + fitted.slope * math.log(lr))
        assert line(lr) == pytest.approx(wanted)
    assert gain_line([(0.01, 0.1), (0.039, 0.2)]) is None, "a span below 4"


def test_a_corrected_reading_is_the_predicted_end() -> None:
    def run(lr: float, *values: float) -> CompleteRun:
        return CompleteRun(lr, LearningCurve.of(values))

    known = [run(0.01, 0.5, 0.5, 0.5), run(0.1, 0.3, 0.3, 0.7)]
    (curve,) = corrected([run(0.1, 0.4, 0.4, 0.6)], known, [2], own=False)
    assert curve.averaged == {2: pytest.approx(0.8)}
    (plain,) = corrected([run(0.1, 0.4, 0.4, 0.6)], known[:1], [2], own=False)
    assert plain.averaged == {2: 0.4}
