"""Each rule of `pcan diagnose`: when it speaks, what it says, and when it has to be silent."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.diagnose.log_case import Finding, make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import RULES, examine

METRIC = "acc/RGBPose_1:1_top1"
STAMP = "2026/01/02 03:04:05 - mmengine - INFO - "
Diagnose = Callable[..., dict[str, Finding]]


def cosine(peak: float, epochs: int, low: float = 1e-5) -> Callable[[int], float]:
    def lr(epoch: int) -> float:
        t = min(epoch - 1, epochs)
        return low + (peak - low) * (1 + math.cos(math.pi * t / epochs)) / 2

    return lr


def rising(epochs: int, top: float = 0.9) -> list[float]:
    return [round(top - 0.5 * math.exp(-0.2 * e), 4) for e in range(1, epochs + 1)]


@pytest.fixture
def diagnose(tmp_path: Path, mmengine_log: Callable[..., str]) -> Diagnose:
    """Write a log of these values, read and examine it; the findings by id."""

    def run(
        top1: Sequence[float | None],
        *,
        planned: int | None = None,
        scratch: bool = True,
        tail: str = "",
        start: float | None = None,
        **shape: object,
    ) -> dict[str, Finding]:
        shape.setdefault("lr", cosine(0.01, len(top1)))
        shape.setdefault("loss", lambda epoch: 2.0 * 0.9**epoch)
        text = mmengine_log(top1, **shape).replace(
            "max_epochs=24", f"max_epochs={planned or len(top1)}"
        )
        if scratch:
            text = text.replace("load_from = 'work_dirs/epoch_26.pth'", "load_from = None")
        log = tmp_path / "x.log"
        log.write_text(text + tail)
        return {f.id: f for f in examine(make_case(read_log(log), start=start))}

    return run


def test_a_healthy_run_has_no_finding(diagnose: Diagnose) -> None:
    assert diagnose(rising(30)) == {}


def test_a_healthy_fine_tune_with_a_warm_up_has_no_finding(diagnose: Diagnose) -> None:
    def lr(epoch: int) -> float:
        return 0.001 + 0.0018 * (epoch - 1) if epoch <= 6 else cosine(0.01, 24)(epoch - 5)

    values = [0.88 + 0.001 * e for e in range(30)]
    assert diagnose(values, lr=lr, scratch=False, start=0.8795) == {}


def test_a_warm_up_from_scratch_is_not_a_fault(diagnose: Diagnose) -> None:
    def lr(epoch: int) -> float:
        return 0.002 * epoch if epoch <= 5 else cosine(0.01, 45)(epoch - 5)

    assert diagnose(rising(50), lr=lr) == {}


def test_a_warm_up_that_lost_the_start_for_good_is_named(diagnose: Diagnose) -> None:
    def lr(epoch: int) -> float:
        return min(0.01, 0.001 * epoch)

    values = [0.8832, 0.88, 0.875, 0.872, *[0.87] * 8]
    found = diagnose(values, lr=lr, scratch=False, start=0.8919)
    assert "89.19 % before training, 88.32 % at epoch 1" in found["warmup_on_finetune"].evidence
    regained = [*values, *[0.895] * 3]
    assert "warmup_on_finetune" not in diagnose(regained, lr=lr, scratch=False, start=0.8919)


def test_a_slow_start_that_moved_the_loss_is_not_too_small(diagnose: Diagnose) -> None:
    def lr(epoch: int) -> float:
        return min(0.01, 0.001 * epoch)

    values = [0.5, 0.5, 0.5, 0.5, *rising(20)]
    still = diagnose(values, lr=lr, loss=lambda e: 2.0 if e < 5 else 1.0)
    assert still["lr_too_small"].severity == "note"  # it recovered
    assert "did not fall (2 to 2)" in still["lr_too_small"].evidence
    moving = diagnose(values, lr=lr, loss=lambda e: 2.0 * 0.9**e)
    assert "lr_too_small" not in moving


def test_patience_with_little_left_is_not_too_strict(diagnose: Diagnose) -> None:
    stop = f"{STAMP}the monitored metric did not improve in the last 10 records. best score: 0.9\n"
    early = diagnose(rising(10), planned=30, lr=cosine(0.01, 30), tail=stop)
    late = diagnose(rising(24), planned=30, lr=cosine(0.01, 30), tail=stop)
    low = diagnose(rising(20), planned=30, lr=cosine(0.01, 30), tail=stop)
    assert "early_stop_too_strict" in early
    assert "early_stop_too_strict" not in late and "early_stop_too_strict" not in low
    assert {"stopped_early"} <= set(early) & set(late)
    assert "incomplete" not in early


def test_a_schedule_that_ended_long_before_the_training(diagnose: Diagnose) -> None:
    def ended(epoch: int) -> float:
        return cosine(0.01, 50, 0.0)(min(epoch, 51))

    flat = [*rising(50, 0.8), *[0.8] * 150]
    found = diagnose(flat, lr=ended, loss=lambda e: max(0.2, 2.0 * 0.9**e))
    assert re.search(r"15\d of 200 epochs", found["lr_exhausted"].evidence)
    assert found["lr_exhausted"].severity == "warning"


def test_steps_down_that_still_gain_are_not_exhausted(diagnose: Diagnose) -> None:
    def steps(epoch: int) -> float:
        return 0.1 if epoch <= 30 else 0.01 if epoch <= 60 else 0.001

    values = [*rising(30, 0.7), *[0.75] * 30, *[0.77] * 30]
    assert "lr_exhausted" not in diagnose(values, lr=steps, loss=lambda e: 2.0 * 0.97**e)


def test_a_nan_loss_is_found_with_its_place(diagnose: Diagnose) -> None:
    found = diagnose(rising(6), loss=lambda e: math.nan if e >= 4 else 1.0)
    assert found["nan_loss"].epoch == 4 and "line " in found["nan_loss"].evidence
    assert found["nan_loss"].severity == "error"
    assert "nan_loss" in diagnose([0.5, 0.6, math.nan, 0.6])


def test_a_collapse_is_one_only_if_it_stays(diagnose: Diagnose) -> None:
    assert "collapse" in diagnose([*rising(10), 0.02, 0.02, 0.02])
    assert "collapse" not in diagnose([*rising(10), 0.02, 0.7, 0.8])


def test_best_at_start_needs_a_clear_fall(diagnose: Diagnose) -> None:
    assert "best_at_start" in diagnose([0.88, *[0.87] * 10], scratch=False)
    assert "best_at_start" not in diagnose([0.88, *[0.879] * 10], scratch=False)
    assert "best_at_start" not in diagnose([0.88, 0.87, 0.87], scratch=False)
    found = diagnose([*[0.88] * 10], scratch=False, start=0.8919)
    assert "89.19 % before training" in found["best_at_start"].evidence


def test_never_learned_needs_guessing_and_a_still_loss(diagnose: Diagnose) -> None:
    guessing = [0.0167, 0.0150, 0.0167, 0.0170, 0.0160] * 6
    assert "never_learned" in diagnose(guessing, loss=lambda e: 4.09)
    assert "never_learned" not in diagnose(guessing, loss=lambda e: 4.09 * 0.9**e)
    assert "never_learned" not in diagnose(guessing[:8], planned=50, loss=lambda e: 4.09)


def test_swings_beyond_chance_are_unstable(diagnose: Diagnose) -> None:
    swinging = [round(0.8 - 0.1 * (e % 2) + e / 9973, 4) for e in range(30)]
    assert "unstable" in diagnose(swinging)
    # On 47 clips one clip is two points: the same swings are chance.
    coarse = [round((38 - 5 * (e % 2) + e % 3) / 47, 4) for e in range(30)]
    assert "unstable" not in diagnose(coarse)


def test_overfitting_needs_a_falling_loss(diagnose: Diagnose) -> None:
    values = [*rising(10), *[0.8] * 20]
    assert "overfit" in diagnose(values, loss=lambda e: 2.0 * 0.9**e)
    assert "overfit" not in diagnose(values, loss=lambda e: 2.0)


def test_a_branch_that_falls_alone_is_named(diagnose: Diagnose) -> None:
    fused = [0.89] * 6
    pose = [0.825, 0.80, 0.79, 0.77, 0.766, 0.766]
    found = diagnose(fused, more={"acc/pose_top1": pose, "acc/rgb_top1": [0.88] * 6})
    assert "the pose branch (acc/pose_top1) fell from 82.50 %" in found["branch_collapse"].evidence
    both = diagnose([v + 0.06 for v in pose], more={"acc/pose_top1": pose})
    assert "branch_collapse" not in both


def test_a_crash_is_reported_with_its_error(diagnose: Diagnose) -> None:
    crash = 'Traceback (most recent call last):\n  File "x.py"\nRuntimeError: CUDA out of memory\n'
    found = diagnose(rising(5), planned=30, tail=crash)["incomplete"]
    assert found.severity == "error" and "RuntimeError: CUDA out of memory" in found.evidence


def test_a_log_that_just_ends_may_still_run(diagnose: Diagnose) -> None:
    found = diagnose(rising(5), planned=30)["incomplete"]
    assert (found.severity, found.epoch) == ("note", 5) and "epoch 5 of 30" in found.evidence


def test_a_log_without_validation_shows_what_it_has(diagnose: Diagnose) -> None:
    found = diagnose([None] * 4)["no_validation"]
    assert "it has the training of epochs 1-4" in found.evidence


def test_a_log_without_top1_shows_what_it_has(tmp_path: Path) -> None:
    log = tmp_path / "x.csv"
    log.write_text("epoch,mAP,recall\n1,0.3,0.4\n2,0.4,0.5\n")
    (found,) = examine(make_case(read_log(log)))
    assert found.id == "no_top1" and "they have: mAP, recall" in found.evidence
    assert examine(make_case(read_log(log), metric="mAP")) == []


def test_every_rule_is_silent_on_an_empty_run(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text(f"{STAMP}Config:\nmodel = dict()\n{STAMP}Hooks will be executed\n")
    assert [f.id for f in examine(make_case(read_log(log)))] == ["no_validation"]


def test_every_finding_of_the_documentation_has_its_rule(root: Path) -> None:
    text = (root / "docs" / "diagnose.md").read_text()
    for rule in RULES:
        assert f"`{rule.__name__}`" in text
