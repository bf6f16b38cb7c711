"""What more trials of a search are expected to gain: exact sums, and replays of real curves."""

import itertools
import math
import os
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.plan.search.expected_gain import (
    ENOUGH,
    FREEDOM,
    LEVEL,
    MORE,
    expected_gain,
    high_gain,
    mean_best,
)
from pipeline.plan.search.rules import AsyncHalving, NoRule, SyncHalving
from pipeline.plan.search.simulate import LearningCurve, simulate

ENDS = [
    0.61,
    0.72,
    0.55,
    0.70,
    0.64,
    0.71,
    0.30,
    0.69,
    0.66,
    0.58,
    0.62,
    0.67,
    0.5,
    0.4,
    0.6,
    0.65,
]


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_the_mean_best_is_that_of_every_choice(size: int) -> None:
    values = sorted(ENDS[:8], reverse=True)
    choices = [max(chosen) for chosen in itertools.combinations(values, size)]
    assert mean_best(values, size) == pytest.approx(statistics.fmean(choices), rel=1e-12)


@pytest.mark.parametrize("chance", [0.11, 0.2, 1 / 3, 0.9])
def test_the_high_gain_is_a_quantile_of_scipys_lomax(chance: float) -> None:
    scale = FREEDOM * 0.01 / chance
    above = (1 - LEVEL) / chance  # of the cases with a gain, so many exceed it
    assert high_gain(chance, 0.01) == pytest.approx(stats.lomax.isf(above, FREEDOM, scale=scale))
    assert high_gain(1 - LEVEL, 0.01) == 0.0


def test_few_trials_say_nothing() -> None:
    assert expected_gain(ENDS[: ENOUGH - 1], 0.72) is None
    assert expected_gain(ENDS[:ENOUGH], 0.72) is not None


def test_the_order_of_the_trials_does_not_matter() -> None:
    assert expected_gain(ENDS, 0.72) == expected_gain(ENDS[::-1], 0.72)


def test_a_best_from_outside_the_search_leaves_less_to_gain() -> None:
    gains = [expected_gain(ENDS, best) for best in (0.72, 0.73, 0.80)]
    assert gains[0].mean > gains[1].mean > gains[2].mean > 0
    assert gains[0].chance > gains[1].chance > gains[2].chance > 0


def test_nothing_is_gained_where_the_best_ends_are_equal_or_perfect() -> None:
    equal = expected_gain([0.9] * 8 + ENDS, 0.9)
    assert (equal.mean, equal.high) == (0.0, 0.0)
    assert expected_gain([1.0, *ENDS], 1.0).high == 0.0


def replays(
    draw: Callable[[random.Random], tuple[list[float], float, float]], count: int
) -> tuple[float, float, float]:
    """Return mean forecast, mean gain, and how often the gain was within the interval."""
    said, gained, within = [], [], []
    for index in range(count):
        ends, best, later = draw(random.Random(f"replay/{index}"))
        forecast = expected_gain(ends, best)
        said.append(forecast.mean)
        gained.append(max(0.0, later - best))
        within.append(gained[-1] <= forecast.high + 1e-12)
    return statistics.fmean(said), statistics.fmean(gained), statistics.fmean(within)


@pytest.mark.parametrize("count", [ENOUGH, 40])
@pytest.mark.parametrize("shape", ["gauss", "uniform", "exponential"])
def test_forecast_and_gain_agree_on_drawn_ends(shape: str, count: int) -> None:
    def draw(rng: random.Random) -> tuple[list[float], float, float]:
        make = {
            "gauss": lambda: min(1, 0.6 + rng.gauss(0, 0.05)),
            "uniform": lambda: rng.uniform(0.5, 0.8),
            "exponential": lambda: 0.3 + min(0.7, rng.expovariate(30)),
        }[shape]
        values = [make() for _ in range(count + MORE)]
        return values[:count], max(values[:count]), max(values)

    said, gained, within = replays(draw, 500)
    assert 1 / 1.5 < said / gained < 1.5
    assert 0.8 < within <= 1


Curves = dict[str, list[list[LearningCurve]]]


@pytest.fixture(scope="session")
def real_curves() -> Curves:
    """Complete curves by file, one list a seed; only files that are there."""
    root = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("PCAN_DATA") or root.parent / "shared" / "data")
    found = {f.stem: _fine_tunings(f) for f in sorted(data.glob("finetune_curves/*.npz"))}
    found |= {f.stem: _task_set(f) for f in sorted(data.glob("curves/taskset_*.npz"))}
    if not found:
        pytest.skip(f"real curves absent: none in {data} (set PCAN_DATA)")
    return found


def _fine_tunings(file: Path) -> list[list[LearningCurve]]:
    with np.load(file) as content:
        values = content["raw"].astype(float) / float(content["count"])
    values[values < 0] = np.nan
    return [[LearningCurve.of(row) for row in seed.tolist()] for seed in values]


def _task_set(file: Path) -> list[list[LearningCurve]]:
    with np.load(file) as content:
        loss = content["valid_loss"].astype(float)[:, 1:]
    loss[~np.isfinite(loss)] = np.nan
    chance = math.log(2)
    rows = ((chance - loss) / (chance - np.nanmin(loss))).tolist()
    return [[LearningCurve.of(row) for row in rows]]


def drawer(seeds: Sequence[Sequence[LearningCurve]], make, count: int):
    """Return a function that draws a sweep and what it came to, without and with five more."""

    def draw(rng: random.Random) -> tuple[list[float], float, float]:
        curves = rng.sample(rng.choice(seeds), count + MORE)
        ends, best = _searched(curves[:count], make)
        return ends, best, _searched(curves, make)[1]

    return draw


def _searched(curves: Sequence[LearningCurve], make) -> tuple[list[float], float]:
    """Return what each trial came to, and the best of those that were not stopped."""
    done = simulate(curves, make(curves[0].epochs))
    values = [c.bests[e - 1] if e else 0.0 for c, e in zip(curves, done.trained, strict=True)]
    ends = [value if math.isfinite(value) else 0.0 for value in values]
    kept = [e for e, state in zip(ends, done.states, strict=True) if state == "COMPLETE"]
    best = max(kept, default=0.0)
    return [min(end, best) for end in ends], best


def test_forecast_and_gain_agree_on_real_curves(real_curves: Curves) -> None:
    seeds = [rows for curves in real_curves.values() for rows in curves]
    said, gained, within = replays(drawer(seeds, NoRule, 20), 400)
    assert 1 / 1.5 < said / gained < 1.5
    assert within > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("make", [NoRule, AsyncHalving, SyncHalving])
@pytest.mark.parametrize("count", [ENOUGH, 20, 30])
def test_the_calibration_of_the_manual(real_curves: Curves, make, count: int) -> None:
    """Print the table of docs/search.md: 200 replays a file, fine-tunings apart from TaskSet."""
    found: dict[str, list[tuple[float, float, float]]] = {"fine-tuning": [], "TaskSet": []}
    for name, seeds in real_curves.items():
        kind = "TaskSet" if name.startswith("taskset") else "fine-tuning"
        found[kind].append(replays(drawer(seeds, make, count), 200))
    for kind, rows in found.items():
        said, gained, within = (statistics.fmean(part) for part in zip(*rows, strict=True))
        ratios = " ".join(f"{s / g:.2f}" for s, g, _ in rows)
        print(
            f"{make.__name__} {count} {kind}: forecast {100 * said:.2f}, gain "
            f"{100 * gained:.2f}, within {100 * within:.0f} %; by file {ratios}"
        )
        assert 1 / 1.5 < said / gained < 1.5
        assert within > 0.8
