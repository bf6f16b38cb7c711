"""How sure an order over seeds is: held to SciPy, and calibrated on drawn sweeps."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipeline.plan.distributions import t_cdf
from pipeline.report.stats.significance import chance_above, chances, pooled_spread

TWO = [
    ([0.91, 0.912], [0.905, 0.911]),
    ([0.90, 0.93, 0.91], [0.92, 0.89]),
    ([0.5, 0.6], [0.5, 0.6]),
    ([0.80, 0.81, 0.80, 0.805], [0.70, 0.71, 0.69]),
]


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 30, 400])
def test_students_t_is_that_of_scipy(freedom: int) -> None:
    for t in (-40, -3, -1, -0.01, 0, 0.5, 2, 12, 300):
        assert t_cdf(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), TWO)
def test_the_chance_of_two_is_one_minus_the_p_of_the_t_test(first, second) -> None:
    spread, freedom = pooled_spread([first, second])
    found = chance_above(first, second, spread, freedom)
    p = stats.ttest_ind(first, second, alternative="greater").pvalue
    assert found == pytest.approx(1 - p, rel=1e-9)
    assert chances([first, second]) == {"best": found, "order": found}


def test_the_chances_of_three_are_those_of_drawn_means() -> None:
    groups = [[0.910, 0.914], [0.909, 0.912], [0.900, 0.906]]
    spread, freedom = pooled_spread(groups)
    centre, scale = [np.mean(g) for g in groups], np.eye(3) * spread**2 / 2
    drawn = stats.multivariate_t(centre, scale, df=freedom, seed=1).rvs(400_000)
    best = np.mean(drawn.argmax(axis=1) == 0)
    order = np.mean((drawn[:, 0] > drawn[:, 1]) & (drawn[:, 1] > drawn[:, 2]))
    assert chances(groups) == {
        "best": pytest.approx(best, abs=0.006),
        "order": pytest.approx(order, abs=0.006),
    }
    assert chances(groups) == chances(groups)


def test_one_new_seed_says_nothing_of_the_order() -> None:
    assert chances([[0.91], [0.85]]) == {"best": None, "order": None}
    assert chances([[0.91, 0.92]]) == {"best": None, "order": None}


def test_readings_that_happen_to_be_equal_are_not_certainty() -> None:
    equal = [[0.90, 0.90], [0.89, 0.89]]
    assert chances(equal)["best"] == 1.0
    assert 0.9 < chances(equal, step=1 / 57)["best"] < 1.0


def test_the_chance_means_what_it_says() -> None:
    """Of drawn pairs that are called 70 to 90 % sure, about 80 % are in the right order."""
    rng, right, said = np.random.default_rng(5), [], []
    for _ in range(4000):
        means = rng.normal(0, 1, 2)
        groups = [rng.normal(mean, 1, 2).tolist() for mean in means]
        a, b = sorted((0, 1), key=lambda i: -np.mean(groups[i]))
        sure = chances([groups[a], groups[b]])["best"]
        if 0.7 < sure < 0.9:
            right.append(means[a] > means[b])
            said.append(sure)
    assert len(right) > 1000
    # The prior is flat and the drawn means are not, so it is a little too sure, never much.
    assert np.mean(said) - 0.08 < np.mean(right) < np.mean(said) + 0.04


def test_order_is_never_likelier_than_the_best() -> None:
    rng = np.random.default_rng(2)
    for size, seeds in itertools.product((3, 5), (2, 3)):
        groups = sorted((rng.normal(0.9, 0.01, seeds).tolist() for _ in range(size)), key=np.mean)
        found = chances(groups[::-1])
        assert 0 < found["order"] <= found["best"] <= 1
