"""`pcan gates lint`: each mistake a plan can hold, and the shipped plan's own contradictions."""

import math
from pathlib import Path

import pytest

from pipeline.plan.lint.lint_finding import LintContext, lint_context
from pipeline.plan.lint.runner import lint
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep

TEXT = """\
name: tiny
config: configs/tiny.py
objective: {metric: acc/top1, goal: 0.9, best_known: 0.8}
warm_start: {checkpoint: w.pth, expect: 0.7}
patience: {epochs: 5, min_delta: 0.01}
gates:
  - {epoch: 1, floor: 0.5}
  - {epoch: 3, improve_on_epoch: 1, min_delta: 0.01}
bands: []
variants:
  first: {set: {train_cfg.max_epochs: 10}}
  second: {like: first, set: {a.b: 1}}
ladder:
  start: first
  after:
    - {epoch: 1, below: 0.5, next: [second]}
    - {epoch: 3, rule: no_improvement, next: [second]}
    - {cause: nan, next: [second]}
"""


def cosine(epochs: int = 30) -> list[float]:
    return [1e-5 + (3e-3 - 1e-5) * (1 + math.cos(math.pi * e / epochs)) / 2 for e in range(epochs)]


def found(sweep: Sweep, **known: object) -> list[tuple[str, str, str]]:
    findings = lint(LintContext(sweep=sweep, **known))  # type: ignore[arg-type]
    return [(f.id, f.severity, f.where.rpartition(":")[2]) for f in findings if not f.resolved]


def read(tmp_path: Path, *changes: tuple[str, str]) -> Sweep:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "s.yaml").write_text(text)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


def test_a_sound_plan_has_no_finding(tmp_path: Path) -> None:
    assert lint(LintContext(sweep=read(tmp_path))) == []


WARM = [1e-4, 1e-3, 2e-3]


@pytest.mark.parametrize(
    ("lr", "rises"),
    [
        ([*cosine(16), *cosine(16)[::-1]], True),
        ([*WARM, *cosine(20), *cosine(20)[:10:-1]], True),
        (cosine(30), False),
        ([*WARM, *cosine(30)], False),
        ([*cosine(10), *cosine(10), *cosine(10)], False),
        (WARM, False),
        ([0.1] * 30, False),
        ([0.1] * 10 + [0.01] * 10 + [0.001] * 10, False),
    ],
)
def test_a_schedule_shorter_than_its_training_is_warned_of(tmp_path, lr, rises) -> None:
    reported = found(read(tmp_path), true_lr={"first": lr})
    assert ("lr_rises_at_the_end", "warning", "11") in reported if rises else reported == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("floor: 0.5}", "floor: 0.5, target: 0.4}", ("floor_above_target", "error", "7")),
        ("floor: 0.5}", "floor: 0.85}", ("floor_above_best_known", "warning", "7")),
        ("floor: 0.5}", "floor: 0.5, target: 0.95}", ("target_above_goal", "warning", "7")),
        ("patience: {epochs: 5", "patience: {epochs: 10", ("patience_never_ends", "warning", "5")),
        ("below: 0.5, next", "below: 0.4, next", ("stop_without_next", "warning", "7")),
        ("below: 0.5, next", "below: 0.6, next", ("rule_partly_dead", "warning", "16")),
        (
            "    - {epoch: 3, rule: no_improvement, next: [second]}\n",
            "",
            ("stop_without_next", "warning", "8"),
        ),
        (
            "rule: no_improvement, next: [second]}",
            "rule: no_improvement, next: [second]}\n    - {epoch: 2, below: 0.4, next: [second]}",
            ("rule_unreachable", "error", "18"),
        ),
        ("improve_on_epoch: 1", "floor: 0.5", ("rule_unreachable", "error", "17")),
        (
            "    - {cause: nan",
            "    - {epoch: 1, below: 0.4, next: [second]}\n    - {cause: nan",
            ("rule_unreachable", "error", "18"),
        ),
        (
            "    - {cause: nan",
            "    - {cause: nan, next: [second]}\n    - {cause: nan",
            ("rule_unreachable", "error", "19"),
        ),
        ("    - {cause: nan, next: [second]}\n", "", ("nan_without_next", "note", "15")),
        (
            "ladder:",
            "  third: {like: first, set: {a.b: 2}}\nladder:",
            ("variant_never_reached", "warning", "13"),
        ),
        (
            "second: {like: first,",
            "second: {like: first, in_ladder: false,",
            ("left_out_but_named", "error", "12"),
        ),
        (
            "{cause: nan, next: [second]}",
            "{cause: nan, next: [first, second]}",
            ("ladder_loop", "warning", "18"),
        ),
        (
            "bands: []",
            "bands: [{epoch: 1, top1: [0.4, 0.6]}]",
            ("floor_inside_band", "error", "7"),
        ),
    ],
)
def test_each_mistake_is_found_with_its_line(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, str]
) -> None:
    assert expected in found(read(tmp_path, (old, new)))


def test_gates_are_checked_against_what_the_config_validates(tmp_path: Path) -> None:
    sweep = read(tmp_path)
    facts = {"max_epochs": 10, "val_begin": 1, "val_interval": 2}
    reported = lint(lint_context(sweep, {sweep.config: facts}, {}))
    assert {(f.id, f.where) for f in reported} == {
        ("gate_never_judged", "s.yaml:7"),
        ("gate_never_judged", "s.yaml:8"),
    }
    assert "first does not validate epoch 1" in reported[0].message
    assert "val_interval: 1" in reported[0].instead


def test_a_gate_after_the_last_epoch_of_the_base_config(tmp_path: Path) -> None:
    sweep = read(tmp_path, ("{set: {train_cfg.max_epochs: 10}}", "{set: {a.c: 1}}"))
    facts = {"max_epochs": 2, "val_begin": 1, "val_interval": 1}
    reported = [
        f
        for f in lint(lint_context(sweep, {sweep.config: facts}, {}))
        if f.id == "gate_never_judged"
    ]
    assert "a gate at epoch 3, but first has 2 epochs" in reported[0].message


@pytest.mark.parametrize(
    ("clips", "severity", "words"),
    [
        (50, "warning", "min_delta 0.01 of patience is less than one of 50 clips"),
        (400, "note", "is 4 of 400 clips, far below the standard error 0.0200"),
        (16487, None, ""),
    ],
)
def test_a_min_delta_that_the_validation_set_cannot_show(
    tmp_path: Path, clips: int, severity: str | None, words: str
) -> None:
    sweep = (
        read(tmp_path, ("min_delta: 0.01", "min_delta: 0.0099999"))
        if clips == 400
        else read(tmp_path)
    )
    reported = [
        f for f in lint(LintContext(sweep=sweep, clips=clips)) if f.id == "min_delta_too_fine"
    ]
    assert [f.severity for f in reported] == ([severity] * 2 if severity else [])
    assert all(words in f.message for f in reported[:1])


def test_the_shipped_plan_has_only_contradictions_that_readings_resolve(plan: Sweep) -> None:
    reported = lint(LintContext(sweep=plan, true_lr={"baseline": cosine()}))
    assert all(f.resolved for f in reported)
    assert {f.id for f in reported} == {
        "rules_overlap",  # reading 1: below 88 % and below 87 % both fire
        "watch_zone",  # reading 2: 88.0-88.5 % is neither good nor a reason to stop
        "improvement_and_target",  # reading 3: epoch 5, "no improvement"
        "floor_is_the_start",  # reading 4: epoch 10 against the starting weights
        "target_inside_band",  # reading 10: in band but below the target
        "fallback_at_the_blamed_rate",  # reading 11: cause 3 against plan B
        "table_lr_differs",  # the table's lr column is rounded by hand
    }


def test_the_tables_lr_is_shown_beside_the_true_one(plan: Sweep) -> None:
    reported = lint(LintContext(sweep=plan, true_lr={"baseline": cosine()}))
    message = next(f.message for f in reported if f.id == "table_lr_differs")
    assert "epoch 5: 0.0027 / 0.00287" in message and "epoch 30: 1e-05 / 1.82e-05" in message


def test_every_finding_says_where_why_and_what_instead(plan: Sweep) -> None:
    for finding in lint(LintContext(sweep=plan, clips=16487, true_lr={"baseline": cosine()})):
        record = finding.record()
        assert record["resolved"] is (finding.resolved is not None)
        assert all(record[key] for key in ("id", "severity", "where", "message", "why", "instead"))
