"""Trials that were measured differently are never ranked as one."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.report.best.winner import find_winner
from pipeline.report.stats.readings import incomparable_rows
from pipeline.study.best import best_row, eligible
from written_rows import row

TEXT = """
name: s
config: pcan.py
objective: {metric: acc/RGBPose_1:1_top1, branches: {rgb: acc/rgb_top1}}
variants:
  baseline: {}
  same: {like: baseline, config: other.py}
  x3d: {config: x3d.py, metric: acc/top1}
  x3d-small: {like: x3d}
ladder: {start: baseline}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "s.yaml").write_text(TEXT)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


def on(annotation: str, split: str) -> dict[str, Any]:
    digests, splits = {"val_dataloader": annotation}, {"val_dataloader": split}
    return {"facts": {"data": {"store": "video", "sha256": digests, "splits": splits}}}


def test_a_variant_has_its_base_config_and_metric_and_passes_them_on(sweep: Sweep) -> None:
    assert [v.config for v in sweep.variants.values()] == [
        *("pcan.py", "other.py", "x3d.py", "x3d.py")
    ]
    assert sweep.metric_of("x3d-small") == "acc/top1" and sweep.branches_of("x3d-small") == {}
    assert sweep.branches_of("same") == {"rgb": "acc/rgb_top1"}


def test_another_metric_never_wins_over_the_plans_own(sweep: Sweep) -> None:
    rows = [row("x3d", 0, 0.95), row("baseline", 0, 0.80), row("same", 0, 0.85)]
    assert [one.name for one in eligible(sweep, rows)] == ["same/0", "baseline/0"]
    said = incomparable_rows(sweep, rows) or ""
    assert "acc/top1: x3d/0" in said and "acc/RGBPose_1:1_top1: baseline/0, same/0" in said


@pytest.mark.parametrize("where", [on("b" * 64, "val"), on("a" * 64, "xview")])
def test_other_clips_never_win_over_those_of_the_first_variant(sweep: Sweep, where: Any) -> None:
    rows = [row("same", 0, 0.95, **where), row("baseline", 0, 0.8, **on("a" * 64, "val"))]
    best = best_row(sweep, rows)
    assert best is not None and best.name == "baseline/0"
    assert "ranked by itself" in (incomparable_rows(sweep, rows) or "")


def test_what_is_unknown_of_older_trials_counts_as_the_same(sweep: Sweep) -> None:
    rows = [row("same", 0, 0.95), row("baseline", 0, 0.8, **on("a" * 64, "val"))]
    assert [one.name for one in eligible(sweep, rows)] == ["same/0", "baseline/0"]
    assert incomparable_rows(sweep, rows) is None


def test_a_sweep_with_only_the_other_kind_ranks_that(sweep: Sweep) -> None:
    rows = [row("x3d", 0, 0.7), row("x3d-small", 0, 0.6)]
    assert [one.name for one in eligible(sweep, rows)] == ["x3d/0", "x3d-small/0"]


def test_the_runner_up_is_of_the_winners_kind_also_where_it_was_named(sweep: Sweep) -> None:
    rows = [row("x3d", 0, 0.95), row("baseline", 0, 0.80), row("x3d-small", 0, 0.85)]
    named = find_winner(sweep, rows, "x3d/0")
    assert named.runner_up is not None and named.runner_up.name == "x3d-small/0"
    assert [one.name for one in named.others] == ["x3d-small/0", "baseline/0"]
    assert find_winner(sweep, rows).runner_up is None
