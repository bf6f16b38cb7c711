"""Which trial a stage starts from, what waits, and what is old: from the trials' rows alone."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SweepFileError
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.states import Phase, State
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow
from written_rows import row

VARIANTS = """
variants:
  first: {}
  fine: {warm_start: {best_of: first}}
  low: {warm_start: {best_of: fine}}
ladder: {start: first}
"""
HASHES = {"first": "f", "fine": "i", "low": "l"}


def sweep_of(folder: Path, variants: str = VARIANTS) -> Sweep:
    file = folder / "s.yaml"
    file.write_text(f"name: s\nconfig: c.py\nobjective: {{metric: acc/top1}}\n{variants}")
    return read_sweep(file, folder)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return sweep_of(tmp_path)


def began(source: TrialRow) -> dict[str, Any]:
    facts = {"trial": source.name, "uid": source.uid, "epoch": source.best_epoch, "top1": 0.5}
    return {"stage": {"of": source.variant, **facts}}


def recipe(sweep: Sweep, rows: list[TrialRow], variant: str) -> str:
    return Stages(sweep, rows, HASHES).recipes()[variant]


def chain(sweep: Sweep) -> list[TrialRow]:
    """Return the three stages, each trained from the one before."""
    rows = [row("first", 0, 0.7, "f")]
    for name in ("fine", "low"):
        rows.append(row(name, 0, 0.8, recipe(sweep, rows, name), facts=began(rows[-1])))
    return rows


def test_a_stage_waits_and_names_the_first_stage_to_run(sweep: Sweep) -> None:
    stages = Stages(sweep, [row("first", 0, 0.9, "f", state=State.PRUNED)], HASHES)
    assert list(stages.recipes()) == ["first"]
    assert list(stages.waiting()) == ["fine", "low"]
    assert stages.waiting()["low"].endswith("pcan sweep launch s --variant first")


def test_a_stage_starts_from_the_best_complete_trial_of_the_present_recipe(sweep: Sweep) -> None:
    rows = [
        row("first", 0, 0.99, "older"),
        row("first", 1, 0.98, None),  # drawn while that was the recipe
        row("first", 2, 0.70, "f"),
        row("first", 3, 0.75, None),
        row("first", 4, 0.97, None, state=State.PRUNED),
        row("first", 5, 0.96, None, facts={"imported": {"log": "x"}}),
    ]
    start = Stages(sweep, rows, HASHES).start_of("fine")
    assert start is not None and start.name == "first/3"


def test_nothing_is_old_while_the_chain_stands(sweep: Sweep) -> None:
    stages = Stages(sweep, chain(sweep))
    assert stages.old() == {} and stages.waiting() == {}
    assert stages.needed() == {"first/0", "fine/0"}


def test_a_better_trial_of_the_first_stage_makes_all_later_ones_old(sweep: Sweep) -> None:
    rows = [*chain(sweep), row("first", 1, 0.75, None)]
    stages = Stages(sweep, rows)
    assert list(stages.old()) == ["fine/0", "low/0"]
    assert "the best of first is now first/1 (75.00 %)" in stages.old()["fine/0"]
    assert recipe(sweep, rows, "fine") != rows[1].recipe_hash
    assert "low" not in Stages(sweep, rows, HASHES).recipes()


def test_a_changed_recipe_of_the_first_stage_makes_all_later_ones_old(sweep: Sweep) -> None:
    waits = row("first", 1, 0.0, "g", state=State.WAITING, phase=Phase.WAITING, best_top1=None)
    stages = Stages(sweep, [*chain(sweep), waits])
    assert list(stages.old()) == ["fine/0", "low/0"]
    assert list(stages.waiting()) == ["fine", "low"]


def test_an_interrupted_stage_keeps_the_checkpoint_it_began_with(sweep: Sweep) -> None:
    rows = [*chain(sweep), row("first", 1, 0.75, None)]
    rows[1] = dataclasses.replace(rows[1], state=State.RUNNING, phase=Phase.INTERRUPTED)
    assert Stages(sweep, rows).needed() == {"first/0", "first/1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fine: {warm_start: {best_of: nowhere}}", 's.yaml:6: there is no variant "nowhere"'),
        ("fine: {warm_start: {best_of: fine}}", "starts from its own best trial"),
        ("fine: {like: low}\n  low: {warm_start: {best_of: fine}}", "own best trial|goes round"),
        ("a: {warm_start: {best_of: b}}\n  b: {warm_start: {best_of: a}}", "goes round: a -> b"),
        (
            "fine: {warm_start: {best_of: first, checkpoint: w.pth}}",
            "write checkpoint, a file, or",
        ),
        ("fine: {warm_start: {}}", "write checkpoint, a file, or best_of"),
        ("fine: {warm_start: {best_of: first, make: first}}", "make and sha256 belong"),
    ],
)
def test_stages_that_cannot_be_are_refused_with_their_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SweepFileError, match=said):
        sweep_of(tmp_path, f"variants:\n  first: {{}}\n  {text}\nladder: {{start: first}}\n")


def test_a_rule_for_an_unknown_completed_variant_is_refused(tmp_path: Path) -> None:
    after = "ladder: {start: first, after: [{complete: firts, next: [fine]}]}"
    with pytest.raises(SweepFileError, match='no variant "firts"'):
        sweep_of(tmp_path, VARIANTS.replace("ladder: {start: first}", after))
