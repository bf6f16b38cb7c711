"""The plan's failed run, rebuilt from its history, and the later one, as pcan judges them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.plan_context import PlanContext, replay_log
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import examine
from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.sweep import Patience, Sweep
from pipeline.plan.verdict import VerdictKind

CAUSES = {"early_stop_too_strict", "warmup_on_finetune", "lr_too_small"}


def test_its_own_patience_stopped_it_in_epoch_11(failed_run: Path) -> None:
    case = make_case(read_log(failed_run))
    assert case.series is not None
    own = Rules(patience=Patience(epochs=10, min_delta=0.001))
    last = judge_all(case.series.measurements(), own)[-1]
    assert (last.epoch, last.kind, last.cause) == (11, VerdictKind.STOP, "patience")


def test_diagnose_names_all_three_causes(failed_run: Path) -> None:
    found = {f.id: f for f in examine(make_case(read_log(failed_run)))}
    assert set(found) == CAUSES | {"best_at_start", "stopped_early"}
    strict = found["early_stop_too_strict"]
    assert "13 of 24 planned epochs left" in strict.evidence and "% of its peak" in strict.evidence
    assert "decline itself has another cause" in strict.remedy
    warm_up = found["warmup_on_finetune"]
    assert "rose from 0.001 (epoch 1) to 0.01 (epoch 6)" in warm_up.evidence
    assert "88.32 % at epoch 1 (line " in warm_up.evidence
    assert "training loss did not fall" in found["lr_too_small"].evidence


def test_the_causes_hold_without_the_stop_message(
    tmp_path: Path, mmengine_log: Callable[..., str], failed_values: list[float]
) -> None:
    """A log that was cut just before the hook's last word: its configuration explains the end."""
    log = tmp_path / "x.log"
    log.write_text(mmengine_log(failed_values))
    found = {f.id: f for f in examine(make_case(read_log(log)))}
    assert set(found) >= CAUSES
    assert "its own rule (patience 10" in found["early_stop_too_strict"].evidence


def test_replay_gives_what_the_plan_predicts(plan: Sweep, failed_run: Path) -> None:
    against = PlanContext(sweep=plan, variant=plan.variants["baseline"])
    _, result, _ = replay_log(against, failed_run)
    kinds = [(v.epoch, v.kind.value) for v in result.verdicts]
    assert kinds == [(1, "watch"), (2, "go"), (3, "go"), (4, "go"), (5, "prune")]
    assert result.verdicts[-1].rule == "epoch 5 no_improvement"
    assert (result.stopped_epoch, result.stopped_by, result.next) == (5, "gate", "pose-1.5")
    assert plan.variants["pose-1.5"].plan == "A"
    assert (result.epochs_logged, result.epochs_saved, result.gpu_hours_saved) == (11, 6, 3.0)


def test_the_later_run_is_pruned_at_epoch_1_and_b_is_next(plan: Sweep, tmp_path: Path) -> None:
    """Lr 0.003, pose weight 2.0: fused 86.69 % after one epoch."""
    log = tmp_path / "later.csv"
    log.write_text("epoch,top1,lr,rgb_top1,pose_top1\n1,0.8669,0.003,0.8756,0.7666\n")
    against = PlanContext(sweep=plan, variant=plan.variants["baseline"])
    _, result, _ = replay_log(against, log)
    assert (result.stopped_epoch, result.stopped_by, result.next) == (1, "gate", "lr-0.001")
    assert plan.variants["lr-0.001"].plan == "B"


@pytest.mark.parametrize(
    ("top1", "verdict", "follows"),
    [
        (0.8799, "prune", "pose-1.5"),
        (0.88, "watch", None),
        (0.885, "go", None),
        (0.8699, "prune", "lr-0.001"),
        (0.87, "prune", "pose-1.5"),
    ],
)
def test_the_boundaries_of_epoch_1_in_a_log(
    plan: Sweep,
    tmp_path: Path,
    mmengine_log: Callable[..., str],
    top1: float,
    verdict: str,
    follows: str,
) -> None:
    log = tmp_path / "x.log"
    log.write_text(mmengine_log([top1]))
    against = PlanContext(sweep=plan, variant=plan.variants["baseline"])
    _, result, _ = replay_log(against, log)
    assert (result.verdicts[0].kind.value, result.next) == (verdict, follows)


@pytest.mark.parametrize(
    ("values", "epoch", "verdict", "rule"),
    [
        ([0.886, 0.885, 0.884, 0.886, 0.8864], 5, "prune", "epoch 5 no_improvement"),
        ([0.886, 0.885, 0.8866, 0.885, 0.885], 5, "watch", "epoch 5 target"),
        ([0.89, *[0.8955] * 8, 0.8918], 10, "prune", "epoch 10 floor"),
        ([0.89, *[0.8955] * 8, 0.8919], 10, "watch", "epoch 10 floor"),
        ([0.89, *[0.8955] * 8, 0.8920], 10, "watch", "epoch 10 target"),
        ([0.89, *[0.8955] * 8, 0.90], 10, "go", "epoch 10 gate"),
    ],
)
def test_the_later_gates_in_a_log(
    plan: Sweep,
    tmp_path: Path,
    mmengine_log: Callable[..., str],
    values: list[float],
    epoch: int,
    verdict: str,
    rule: str | None,
) -> None:
    log = tmp_path / "x.log"
    log.write_text(mmengine_log(values))
    against = PlanContext(sweep=plan, variant=plan.variants["baseline"])
    _, result, _ = replay_log(against, log)
    last = result.verdicts[-1]
    assert (last.epoch, last.kind.value, last.rule) == (epoch, verdict, rule)


def test_plan_b_is_not_blamed_for_its_low_rate(
    tmp_path: Path, mmengine_log: Callable[..., str]
) -> None:
    """Cause 3 calls 0.001 too small, yet the plan's B trains at it: no value alone is a fault."""
    import math

    def cosine(epoch: int) -> float:
        return 1e-5 + (0.001 - 1e-5) * (1 + math.cos(math.pi * (epoch - 1) / 30)) / 2

    values = [0.886 + 0.0005 * epoch for epoch in range(30)]
    log = tmp_path / "b.log"
    text = mmengine_log(values, lr=cosine)
    log.write_text(text.replace("max_epochs=24", "max_epochs=30"))
    assert examine(make_case(read_log(log), start=0.8919)) == []
