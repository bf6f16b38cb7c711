"""The expected course, differences between variants, and what a plan may cost at worst."""

import dataclasses
import math

import pytest

from pipeline.plan.cost import gpu_hours, worst_case_epochs
from pipeline.plan.course import expected, off_band, off_schedule, table_differences
from pipeline.plan.recipe import Difference, beyond, config_differences
from pipeline.plan.sweep import Sweep

COSINE = [1e-5 + (3e-3 - 1e-5) * (1 + math.cos(math.pi * e / 30)) / 2 for e in range(30)]


@pytest.mark.parametrize(
    ("epoch", "true"),
    [(1, 0.00300), (5, 0.00287), (10, 0.00238), (15, 0.00166), (20, 0.00090), (30, 0.000018)],
)
def test_the_plans_own_cosine(epoch: int, true: float) -> None:
    assert COSINE[epoch - 1] == pytest.approx(true, rel=0.012)


def test_the_table_differs_from_its_schedule_at_five_epochs(plan: Sweep) -> None:
    different = table_differences(plan.variants["baseline"].bands, COSINE)
    assert [d.epoch for d in different] == [5, 10, 15, 20, 30]


def test_a_run_is_held_against_the_true_lr_never_the_table() -> None:
    logged = [(e, float(f"{lr:.4e}")) for e, lr in enumerate(COSINE, 1)]
    assert off_schedule(logged, COSINE) == []
    wrong = off_schedule([(5, 0.0027)], COSINE)
    assert wrong[0].true == pytest.approx(0.00287, rel=0.01)
    assert off_schedule([(31, 0.1), (0, 0.1)], COSINE) == []


def test_bands_include_their_ends(plan: Sweep) -> None:
    bands = plan.variants["baseline"].bands
    assert off_band({1: 0.885, 5: 0.90}, bands) == []
    assert [(o.epoch, o.below) for o in off_band({1: 0.8849, 5: 0.9001}, bands)] == [
        (1, True),
        (5, False),
    ]


def test_between_the_plans_epochs_the_band_is_a_straight_line(plan: Sweep) -> None:
    bands = plan.variants["baseline"].bands
    assert expected(bands, 3) == pytest.approx((0.8875, 0.8975))
    assert expected(bands, 31) is None and expected((), 1) is None


def test_the_worst_case_of_the_ladder_is_40_gpu_hours(plan: Sweep) -> None:
    """Three runs cut at epoch 10 and 50 epochs from scratch."""
    worst = worst_case_epochs(plan, {})
    assert worst == 80 and gpu_hours(plan, worst) == 40.0


def test_a_plan_that_names_no_length_has_no_worst_case(plan: Sweep) -> None:
    job = plan.job.model_copy(update={"epoch_minutes": None})
    assert gpu_hours(plan.model_copy(update={"job": job}), 30) is None


@dataclasses.dataclass
class Changed:
    path: str
    old: object
    new: object


def test_variants_are_compared_through_their_base() -> None:
    scheduler = [{"type": "MultiStepLR", "gamma": 0.1}]
    one = [Changed("lr", 0.1, 0.003), Changed("s.0.gamma", 0.1, 0.2), Changed("w.1", 1.0, 2.0)]
    other = [Changed("lr", 0.1, 0.001), Changed("s", scheduler, []), Changed("w.1", 1.0, 2.0)]
    assert config_differences(one, other) == [
        Difference("lr", 0.003, 0.001),
        Difference("s", [{"type": "MultiStepLR", "gamma": 0.2}], []),
    ]
    assert config_differences(one, one) == []


def test_true_is_not_one() -> None:
    assert config_differences([Changed("a", 0, 1)], [Changed("a", 0, True)]) == [
        Difference("a", 1, True)
    ]


def test_what_a_variant_changes_beyond_what_it_names() -> None:
    changed = [Difference("a.b.0", 1, 2), Difference("c", 1, 2), Difference("d", {}, {"e": 1})]
    assert beyond(changed, {"a.b": [2], "d.e": 1}) == ["c"]
