"""The ladder of the shipped plan, as the plan's fallbacks read."""

import pytest

from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.ladder import VariantOutcome, next_variant, walk
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement


def ended(plan: Sweep, variant: str, *top1: float) -> VariantOutcome:
    history = [Measurement(epoch=i, top1=v) for i, v in enumerate(top1, start=1)]
    last = judge_all(history, Rules.of(plan.variants[variant]))[-1]
    return VariantOutcome.of(last)


@pytest.mark.parametrize(
    ("top1", "follows"),
    [
        ((0.8699,), "lr-0.001"),
        ((0.87,), "pose-1.5"),
        ((0.8799,), "pose-1.5"),
        ((0.8669,), "lr-0.001"),  # the later history: fused 86.69 % at epoch 1
        ((0.8832, 0.88, 0.87, 0.86, 0.855), "pose-1.5"),
        ((0.89, *[0.8950] * 8, 0.8918), "pose-1.5"),
    ],
)
def test_what_follows_the_baseline(plan: Sweep, top1: tuple[float, ...], follows: str) -> None:
    assert next_variant(plan, ended(plan, "baseline", *top1), ["baseline"]) == follows


def test_the_other_fallback_is_next_and_scratch_is_last(plan: Sweep) -> None:
    low, lower = ended(plan, "baseline", 0.8799), ended(plan, "baseline", 0.86)
    steps = walk(plan, {"baseline": low, "pose-1.5": lower})
    assert steps.path == ("baseline", "pose-1.5", "lr-0.001")
    steps = walk(plan, {"baseline": low, "pose-1.5": lower, "lr-0.001": low})
    assert steps.path == ("baseline", "pose-1.5", "lr-0.001", "scratch")


def test_a_complete_variant_ends_the_ladder(plan: Sweep) -> None:
    step = walk(plan, {"baseline": VariantOutcome(state="COMPLETE")})
    assert step.variant is None and "complete" in step.why


def test_a_nan_loss_is_followed_by_b(plan: Sweep) -> None:
    step = walk(plan, {"baseline": VariantOutcome(state="FAIL", cause="nan")})
    assert step.variant == "lr-0.001"


def test_another_failure_stops_the_ladder(plan: Sweep) -> None:
    step = walk(plan, {"baseline": VariantOutcome(state="FAIL", cause="oom_cuda")})
    assert step.variant is None and "oom_cuda" in step.why


def test_all_pruned_leaves_nothing(plan: Sweep) -> None:
    low = ended(plan, "baseline", 0.8799)
    step = walk(plan, {name: low for name in plan.variants})
    assert step.variant is None and "every fallback" in step.why
    assert step.path == ("baseline", "pose-1.5", "lr-0.001", "scratch")


def test_legacy_is_in_no_rule(plan: Sweep) -> None:
    assert not plan.variants["legacy"].in_ladder
    assert all("legacy" not in rule.next for rule in plan.ladder.after)
