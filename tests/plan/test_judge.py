"""The plan's gates, boundaries and histories, judged as the plan reads."""

import math

import pytest

from pipeline.plan.judge import Rules, judge, judge_all
from pipeline.plan.sweep import Patience, Sweep
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.measurement import Measurement, best_trained


def curve(*top1: float, lr: float | None = None) -> list[Measurement]:
    return [Measurement(epoch=i, top1=v, lr=lr) for i, v in enumerate(top1, start=1)]


@pytest.fixture
def rules(plan: Sweep) -> Rules:
    return Rules.of(plan.variants["baseline"])


@pytest.mark.parametrize(
    ("top1", "kind", "rule"),
    [
        (0.8799, VerdictKind.PRUNE, "epoch 1 floor"),
        (0.88, VerdictKind.WATCH, "epoch 1 target"),
        (0.8801, VerdictKind.WATCH, "epoch 1 target"),
        (0.8849, VerdictKind.WATCH, "epoch 1 target"),
        (0.885, VerdictKind.GO, "epoch 1 gate"),
        (0.8699, VerdictKind.PRUNE, "epoch 1 floor"),
        (0.87, VerdictKind.PRUNE, "epoch 1 floor"),
    ],
)
def test_epoch_1_boundaries_are_as_written(
    rules: Rules, top1: float, kind: VerdictKind, rule: str | None
) -> None:
    verdict = judge(curve(top1), rules)
    assert (verdict.kind, verdict.rule) == (kind, rule)


def test_a_prune_says_value_and_floor(rules: Rules) -> None:
    verdict = judge(curve(0.8712), rules)
    assert verdict.reason == "epoch 1: top-1 87.12 % is under the floor 88.00 %"
    assert (verdict.state, verdict.cause, verdict.threshold) == ("PRUNED", "gate", 0.88)


def test_no_improvement_from_2_to_5_prunes_at_epoch_5(rules: Rules) -> None:
    verdict = judge(curve(0.886, 0.885, 0.884, 0.886, 0.8864), rules)
    assert (verdict.kind, verdict.rule) == (VerdictKind.PRUNE, "epoch 5 no_improvement")


def test_one_better_epoch_before_5_is_an_improvement(rules: Rules) -> None:
    verdict = judge(curve(0.886, 0.885, 0.8866, 0.885, 0.885), rules)
    assert (verdict.kind, verdict.rule) == (VerdictKind.WATCH, "epoch 5 target")


@pytest.mark.parametrize(
    ("top1", "kind", "words"),
    [
        (0.8918, VerdictKind.PRUNE, "under the best known"),
        (0.8919, VerdictKind.WATCH, "not above the start"),
        (0.8920, VerdictKind.WATCH, "under the target"),
        (0.90, VerdictKind.GO, "reaches the target"),
    ],
)
def test_epoch_10_against_the_start(
    rules: Rules, top1: float, kind: VerdictKind, words: str
) -> None:
    verdict = judge(curve(0.89, *[0.8955] * 8, top1), rules)
    assert verdict.kind is kind and words in verdict.reason


def test_in_band_but_below_target_is_watched_never_stopped(plan: Sweep, rules: Rules) -> None:
    band = next(b for b in plan.variants["baseline"].bands if b.epoch == 5)
    verdict = judge(curve(0.886, 0.887, 0.888, 0.889, band.top1[0]), rules)
    assert verdict.kind is VerdictKind.WATCH


def test_the_failed_run_would_have_stopped_at_epoch_5(rules: Rules) -> None:
    sinking = [0.8832 - (0.8832 - 0.8533) * i / 9 for i in range(10)]
    verdicts = judge_all(curve(*sinking, 0.8533), rules)
    assert [v.kind for v in verdicts] == [
        VerdictKind.WATCH,
        VerdictKind.GO,
        VerdictKind.GO,
        VerdictKind.GO,
        VerdictKind.PRUNE,
    ]


def test_the_failed_runs_own_patience_stopped_it_in_epoch_11() -> None:
    sinking = [0.8832 - (0.8832 - 0.8533) * i / 9 for i in range(10)]
    rules = Rules(patience=Patience(epochs=10, min_delta=0.001))
    verdicts = judge_all(curve(*sinking, 0.8533), rules)
    assert verdicts[-1].epoch == 11 and verdicts[-1].kind is VerdictKind.STOP
    assert (verdicts[-1].state, verdicts[-1].cause) == ("COMPLETE", "patience")


def test_patience_counts_a_gain_below_min_delta_as_none() -> None:
    rules = Rules(patience=Patience(epochs=3, min_delta=0.01))
    slow = [0.5 + 0.004 * i for i in range(6)]  # every third epoch beats the best by 0.012
    assert judge(curve(*slow), rules).kind is VerdictKind.GO
    assert judge(curve(0.5, 0.504, 0.508, 0.5099), rules).kind is VerdictKind.STOP


def test_patience_is_mmengines_rule() -> None:
    """The same curves through MMEngine's own hook stop in the same epoch."""
    hooks = pytest.importorskip("mmengine.hooks")
    import random

    draw = random.Random(7)
    for _ in range(200):
        values = [draw.choice([0.5, 0.5005, 0.501, 0.49, 0.52]) for _ in range(12)]
        hook = hooks.EarlyStoppingHook("top1", rule="greater", min_delta=0.0005, patience=4)
        theirs = next(
            (e for e, v in enumerate(values, 1) if hook._check_stop_condition(v)[0]), None
        )
        verdicts = judge_all(curve(*values), Rules(patience=Patience(epochs=4, min_delta=0.0005)))
        ours = verdicts[-1].epoch if verdicts[-1].stops else None
        assert ours == theirs, values


def test_a_repeated_epoch_keeps_its_first_value(rules: Rules) -> None:
    history = [Measurement(epoch=1, top1=0.89), Measurement(epoch=1, top1=0.5)]
    assert judge(history, rules).kind is VerdictKind.GO


def test_a_nan_metric_ends_the_trial_and_is_never_best(rules: Rules) -> None:
    history = curve(0.89, math.nan)
    verdict = judge(history, rules)
    assert (verdict.state, verdict.cause) == ("FAIL", "nan")
    found = best_trained(history)
    assert found is not None and found.epoch == 1


def test_starting_weights_are_checked_at_epoch_0(rules: Rules) -> None:
    ok = judge([Measurement(epoch=0, top1=0.8890)], rules)
    off = judge([Measurement(epoch=0, top1=0.8123)], rules)
    assert ok.kind is VerdictKind.GO
    assert (off.state, off.cause) == ("FAIL", "start_mismatch")
    assert best_trained([Measurement(epoch=0, top1=0.8123)]) is None


def test_a_wrong_lr_at_a_gate_is_watched(plan: Sweep) -> None:
    rules = Rules.of(plan.variants["baseline"], true_lr=[0.003] * 30)
    verdict = judge(curve(0.89, lr=0.001), rules)
    assert verdict.kind is VerdictKind.WATCH
    assert verdict.reason == "epoch 1: lr is 0.001, the schedule gives 0.003"


def test_a_verdict_within_two_standard_errors_says_so(plan: Sweep) -> None:
    rules = Rules.of(plan.variants["baseline"], clips=16487)
    verdict, clear = judge(curve(0.8760), rules), judge(curve(0.8740), rules)
    assert verdict.std_error == pytest.approx(0.00257, abs=1e-5)
    assert verdict.reason == (
        "epoch 1: top-1 87.60 % is under the floor 88.00 % (within two standard errors: "
        "-0.40 points, standard error 0.26 % of 16487 clips)"
    )
    assert clear.stops and "standard error" not in clear.reason


def test_a_stop_that_looks_back_is_held_against_the_best_since(plan: Sweep) -> None:
    rules = Rules.of(plan.variants["baseline"], clips=16487)
    sinking = judge(curve(0.90, 0.899, 0.80, 0.80, 0.80), rules)
    assert sinking.rule == "epoch 5 no_improvement"
    assert sinking.std_error == pytest.approx(0.00312, abs=1e-5)
    assert "-0.15 points, standard error 0.23 % of 16487 clips" in sinking.reason
    lost = judge(curve(0.90, 0.80, 0.80, 0.80, 0.80), rules)
    assert lost.stops and "standard error" not in lost.reason


def test_scratch_carries_patience_only(plan: Sweep) -> None:
    rules = Rules.of(plan.variants["scratch"])
    assert judge(curve(0.12), rules).kind is VerdictKind.GO
    assert rules.gates == () and rules.patience == Patience(epochs=15, min_delta=0.0005)
