"""The ladder of the shipped plan, as the plan's fallbacks read."""

from pathlib import Path

import pytest

from pipeline.plan.cost import worst_case_epochs
from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.ladder import VariantOutcome, next_variant, walk
from pipeline.plan.lint.lint_finding import LintContext
from pipeline.plan.lint.runner import lint
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import State


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


STAGES = """
variants:
  first: {set: {train_cfg.max_epochs: 4}}
  fine: {like: first, warm_start: {best_of: first}}
  low: {like: first, warm_start: {best_of: fine}}
ladder:
  start: first
  after: [{complete: first, next: [fine]}, {complete: fine, next: [low]}]
"""


def staged(folder: Path, text: str = STAGES) -> Sweep:
    (folder / "s.yaml").write_text(f"name: s\nconfig: c.py\nobjective: {{metric: m}}\n{text}")
    return read_sweep(folder / "s.yaml", folder)


def test_a_completed_stage_leads_to_the_next_and_the_last_ends_the_ladder(tmp_path: Path) -> None:
    complete = VariantOutcome(state=State.COMPLETE)
    sweep = staged(tmp_path)
    assert walk(sweep, {"first": complete}).variant == "fine"
    assert walk(sweep, {"first": complete, "fine": complete}).path == ("first", "fine", "low")
    ended = walk(sweep, dict.fromkeys(("first", "fine", "low"), complete))
    assert ended.variant is None and ended.why == "low is complete, which ends the ladder"
    stopped = VariantOutcome(state=State.PRUNED, verdict={"epoch": 1, "top1": 0.1})
    assert walk(sweep, {"first": stopped}).variant is None
    assert worst_case_epochs(sweep, {}) == 12


def test_lint_says_where_the_ladder_reaches_a_stage_too_early(tmp_path: Path) -> None:
    swapped = STAGES.replace("complete: first, next: [fine]", "cause: nan, next: [low]")
    found = lint(LintContext(sweep=staged(tmp_path, swapped)))
    assert {"stage_before_its_start", "rule_unreachable"} <= {one.id for one in found}
    assert not [f for f in lint(LintContext(sweep=staged(tmp_path))) if f.severity != "note"]
