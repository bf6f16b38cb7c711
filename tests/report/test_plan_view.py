"""`pcan sweep plan` on a real, resolved config: ladder, changes, true lr, lint and cost."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from pipeline.cli import sweep_plan
from pipeline.errors import InputError
from pipeline.plan.lint.lint_finding import LintContext
from pipeline.plan.sweep import Sweep
from pipeline.report.plan.plan_record import plan_record, plan_view
from pipeline.report.plan.screen import one_variant, plan_screen
from pipeline.report.plan.search_estimate import search_text
from pipeline.report.plan.text import plan_text


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the shipped plans."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("sweeps", "configs"):
        shutil.copytree(root / name, folder / name)
    (folder / "wandb.yaml").write_text("project: x\n")
    return folder


@pytest.fixture(scope="module")
def answer(folder: Path) -> dict:
    """The JSON of one run of the command, with real child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(sweep_plan.command, ["--json"], catch_exceptions=False)
    return json.loads(result.stdout)


def variant(answer: dict, name: str) -> dict:
    return next(v for v in answer["variants"] if v["name"] == name)


def test_nothing_stood_in_the_way(answer: dict) -> None:
    assert (answer["schema"], answer["sweep"], answer["problems"]) == (1, "pcan_ntu60", [])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pose-1.5", [{"path": "model.cls_head.loss_weights.1", "old": 2.0, "new": 1.5}]),
        ("lr-0.001", [{"path": "optim_wrapper.optimizer.lr", "old": 0.003, "new": 0.001}]),
    ],
)
def test_a_fallback_differs_from_the_baseline_only_in_what_it_names(
    answer: dict, name: str, changes: list
) -> None:
    assert variant(answer, name)["changes"] == changes
    assert not any(f["id"] == "changes_more_than_named" for f in answer["lint"])


def test_the_true_lr_of_each_variant(answer: dict) -> None:
    base = variant(answer, "baseline")["lr"]
    cosine = [1e-5 + (3e-3 - 1e-5) * (1 + math.cos(math.pi * e / 30)) / 2 for e in range(30)]
    assert base == pytest.approx(cosine, rel=1e-6)
    scratch = variant(answer, "scratch")["lr"]
    assert (len(scratch), scratch[0], scratch[5]) == (50, pytest.approx(1e-3), pytest.approx(1e-2))
    assert max(variant(answer, "lr-0.001")["lr"]) == pytest.approx(0.001)


def test_bands_carry_the_true_lr_beside_the_tables(answer: dict) -> None:
    fifth = next(b for b in answer["bands"] if b["epoch"] == 5)
    assert (fifth["lr"], fifth["top1"]) == (0.0027, [0.89, 0.9])
    assert fifth["true_lr"] == pytest.approx(0.00287, rel=1e-3)


def test_the_costs(answer: dict) -> None:
    hours = {v["name"]: v["gpu_hours"] for v in answer["variants"]}
    assert (hours["baseline"], hours["scratch"]) == (15.0, 25.0)
    assert answer["worst_case"] == {"epochs": 80, "gpu_hours": 40.0}


def test_the_ladder_says_after_which_variants_a_rule_can_match(answer: dict) -> None:
    first = answer["ladder"][0]
    assert first["when"] == "epoch 1: top-1 below 87.00 %"
    assert first["next"] == ["lr-0.001", "pose-1.5", "scratch"]
    assert first["after"] == ["baseline", "pose-1.5", "lr-0.001"]
    assert "scratch" in answer["ladder"][-1]["after"]


def test_the_plans_contradictions_are_resolved(answer: dict) -> None:
    assert {f["id"] for f in answer["lint"]} >= {"rules_overlap", "table_lr_differs"}
    assert all(f["resolved"] for f in answer["lint"])


def test_without_a_config_the_plan_is_still_shown(plan: Sweep) -> None:
    view = plan_view(LintContext(sweep=plan), {}, ["the base config is missing."])
    text = plan_text(view)
    assert "At worst 80 epochs by the ladder, 40 GPU hours, 20 h on 2 GPUs" in text
    assert "├─ epoch 1: top-1 below 87.00 % (stopped after 1 epoch, 0.5 GPU hours)" in text
    assert "│  ├─ then lr-0.001 (plan B), 30 epochs, 15 GPU hours" in text
    assert "set, not resolved: optim_wrapper.optimizer.lr = 0.003" in text
    assert text.endswith("Not shown: the base config is missing.")
    assert plan_record(view)["problems"] == ["the base config is missing."]


def test_one_screen_holds_the_plan_and_says_where_the_rest_is(plan: Sweep) -> None:
    lr = {"baseline": [3e-3, 1e-3, 1.8e-5]}
    lines = plan_screen(plan_view(LintContext(sweep=plan, true_lr=lr), {})).splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 160
    assert "├─ epoch 1: top-1 below 87.00 %: then lr-0.001, else pose-1.5, else scratch" in lines
    assert any(re.match(r"baseline +30 +15  0.003, 1.8e-05$", line) for line in lines)
    assert "  epoch 1: below 88.00 % stop; below 88.50 % watch" in lines
    assert re.search(r"Lint: 0 open, \d resolved by a reading", "\n".join(lines))
    assert "pcan sweep plan pcan_ntu60 --full" in lines[-1]


def test_a_plan_named_in_chinese_keeps_the_columns_in_line(plan: Sweep) -> None:
    named = plan.variants["pose-1.5"].model_copy(update={"plan": "方案甲"})
    sweep = plan.model_copy(update={"variants": {**plan.variants, "pose-1.5": named}})
    lines = plan_screen(plan_view(LintContext(sweep=sweep), {})).splitlines()
    rows = [line for line in lines if re.match(r"(variant|pose-1.5) ", line)]
    assert cell_len(rows[0].partition("epochs")[0]) + 6 == cell_len(rows[1].partition("30")[0]) + 2


def test_a_name_that_is_no_sweep_is_refused_as_it_was_typed(
    tmp_path: Path, root: Path, monkeypatch
) -> None:
    shutil.copytree(root / "sweeps", tmp_path / "sweeps")
    (tmp_path / "sweeps" / "pcan_ntu60.yaml").unlink()
    shutil.copy(root / "wandb.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match='There is no sweep "pose"'):
        sweep_plan.command.main(["pose"], standalone_mode=False)
    with pytest.raises(InputError, match="Say which sweep; in .* there are: demo, "):
        sweep_plan.command.main([], standalone_mode=False)


def test_one_variant_is_shown_whole(plan: Sweep) -> None:
    text = one_variant(plan_view(LintContext(sweep=plan), {}), "pose-1.5")
    assert text.startswith("pose-1.5 (plan A), 30 epochs, 15 GPU hours\n")
    assert "follows in the ladder: epoch 1: top-1 below 87.00 %; epoch 1" in text
    assert "lr-0.001" not in text


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (["pose-1.5"], 0, "pose-1.5 (plan A)"),
        (["pcan_ntu60", "scratch"], 0, "scratch (plan C)"),
        (["pcan_ntu60", "pose"], 2, 'no variant "pose"; it has: baseline, pose-1.5'),
        (["pose"], 2, 'There is no sweep "pose"'),
    ],
)
def test_a_word_alone_is_a_sweep_or_a_variant(
    answer: dict, folder: Path, words: list, code: int, shown: str, monkeypatch
) -> None:
    assert answer  # its run has resolved the configs, which are kept
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(sweep_plan.command, words)
    said = f"{result.output}{result.exception}"
    assert shown in said
    assert getattr(result.exception, "exit_code", 0) == code


def test_true_lr_stands_beside_the_plans_table(plan: Sweep) -> None:
    cosine = [1e-5 + (3e-3 - 1e-5) * (1 + math.cos(math.pi * e / 30)) / 2 for e in range(30)]
    lr = {"baseline": cosine, "lr-0.001": [x / 3 for x in cosine]}
    lines = plan_text(plan_view(LintContext(sweep=plan, true_lr=lr), {})).splitlines()
    assert "      5  0.00287     0.0027   *  89.00 %-90.00 %" in lines
    # The column was written for the baseline; beside a fallback it would only mislead.
    assert "      5  0.000957    89.00 %-90.00 %" in lines


def test_a_change_that_a_variant_does_not_name_is_found(plan: Sweep) -> None:
    class Change:
        def __init__(self, path: str, old: object, new: object) -> None:
            self.path, self.old, self.new = path, old, new

    lr = "optim_wrapper.optimizer.lr"
    resolved = {
        "baseline": [Change(lr, 0.01, 0.003)],
        "pose-1.5": [Change(lr, 0.01, 0.002), Change("model.cls_head.loss_weights.1", 2.0, 1.5)],
    }
    view = plan_view(LintContext(sweep=plan), resolved)
    (found,) = [f for f in view.lint if f.id == "changes_more_than_named"]
    assert f"but also differs in {lr}" in found.message and found.severity == "error"


def search_lines(beats: tuple[bool | None, bool | None], measured: bool = True) -> str:
    rules = [
        {
            **{"rule": name, "share": [0.3, 0.35, 0.4], "gpu_hours": None, "miss": 0.1},
            **{"loss": 0.0016 if measured else None, "beats_whole": beaten},
            "whole": {"trials": 6.9, "loss": 0.0188, "miss": 0.5},
        }
        for name, beaten in zip(("halving", "ladder"), beats, strict=True)
    ]
    return search_text(
        {
            **{"variant": "v", "rule": "ladder", "read": "averaged", "trials": 20, "epochs": 30},
            **{"checks": [4, 8, 15], "space": [], "moves_with_lr": [], "rules": rules},
            "curves": {"measured": measured, "count": 9, "averaged": 2},
            **{"epoch_gpu_hours": None, "epoch_measured": False},
        }
    )


def test_beside_each_rule_stands_what_it_has_to_beat() -> None:
    text = search_lines((True, False))
    bar = "6.9 trials run whole at the same cost lose 1.88"
    assert f"  ladder: loses 0.16 points, {bar}" in text
    assert "halving beats trials run whole here; ladder does not." in text
    assert "checked after epoch 4, 8, 15: averaged weights or best so far" in text
    assert "from 9 complete curves of this storage (2 of them have values of averaged" in text


def test_plain_words_where_no_rule_beats_whole_trials_or_nothing_is_known() -> None:
    assert "No rule beats trials run whole here" in search_lines((False, False))
    unknown = search_lines((None, None), measured=False)
    assert "Whether a rule beats trials run whole is not known" in unknown
    assert "ladder: 6.9 trials run whole at the same cost\n" in unknown
