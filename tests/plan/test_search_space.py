"""What a search draws, what moves with it, how a sweep file asks for it, what it may cost."""

import re
from pathlib import Path

import pytest

from pipeline.errors import SweepFileError
from pipeline.plan.read import read_sweep
from pipeline.plan.recipe import recipe_values
from pipeline.plan.search.cost_estimate import MeasuredCurve, curves_for, estimate
from pipeline.plan.search.rules import SyncHalving
from pipeline.plan.search.space import LR, applicable, draw, holds, moved_with_lr
from pipeline.plan.sweep import Search, Space, Sweep

TEXT = """\
name: s
config: c.py
objective: {metric: acc/top1}
variants:
  base:
    set: {lr: 1e-3, opt: sgd, momentum: 0.9}
    space:
      lr: {low: 1e-4, high: 1e-2, log: true}
      opt: {choices: [sgd, adam]}
      momentum: {low: 0.5, high: 0.99, when: {opt: sgd}}
  fixed: {set: {lr: 1e-3}}
ladder: {start: base}
"""


def read(tmp_path: Path, text: str) -> Sweep:
    (tmp_path / "s.yaml").write_text(text)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


def test_a_condition_that_does_not_hold_is_not_drawn(tmp_path: Path) -> None:
    space = read(tmp_path, TEXT).variants["base"].space
    assert draw(space, lambda path, _: {"lr": 1e-3, "opt": "adam"}[path]) == {
        "lr": 1e-3,
        "opt": "adam",
    }
    assert "momentum" in draw(space, lambda path, _: {"opt": "sgd"}.get(path, 0.6))
    assert applicable(space, {"opt": "adam", "momentum": 0.9}) == {"opt": "adam"}


def test_the_recipes_values_are_those_that_apply(tmp_path: Path) -> None:
    sweep = read(tmp_path, TEXT)
    assert recipe_values(sweep.variants["base"]) == {"lr": 1e-3, "opt": "sgd", "momentum": 0.9}
    other = read(tmp_path, TEXT.replace("opt: sgd, momentum", "opt: adam, momentum"))
    assert recipe_values(other.variants["base"]) == {"lr": 1e-3, "opt": "adam"}


@pytest.mark.parametrize(
    ("space", "value", "inside"),
    [
        (Space(low=0, high=1), 1, True),
        (Space(low=0, high=1), 1.1, False),
        (Space(low=0, high=1), True, False),
        (Space(low=0, high=1), "1", False),
        (Space(choices=("a", 2)), 2, True),
        (Space(choices=("a", 2)), 3, False),
    ],
)
def test_what_a_space_holds(space: Space, value: object, inside: bool) -> None:
    assert holds(space, value) is inside


WARM_UP = [
    {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 5},
    {"type": "CosineAnnealingLR", "T_max": 25, "eta_min": 1e-5, "begin": 5, "end": 30},
]


def test_a_drawn_lr_keeps_the_ratios_of_its_schedule() -> None:
    # The warm-up's start_factor is a share of lr, so nothing has to be done about it.
    moved = moved_with_lr(WARM_UP, 3e-3, {LR: 6e-3})
    assert moved == {"param_scheduler.1.eta_min": pytest.approx(2e-5)}
    assert moved_with_lr(dict(WARM_UP[1]), 3e-3, {LR: 1.5e-3}) == {
        "param_scheduler.eta_min": pytest.approx(5e-6)
    }


def test_a_rate_that_is_drawn_itself_is_left_alone() -> None:
    values = {LR: 6e-3, "param_scheduler.1.eta_min": 1e-6}
    assert moved_with_lr(WARM_UP, 3e-3, values) == {}
    assert moved_with_lr(WARM_UP, 3e-3, {"momentum": 0.9}) == {}
    assert moved_with_lr(None, 3e-3, {LR: 1e-3}) == {}
    assert moved_with_lr({"generator": WARM_UP}, 3e-3, {LR: 1e-3}) == {}


def test_the_file_says_how_to_search(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT).search == Search()
    line = "search: {rule: ladder, trials: 12, at: [0.25, 0.5], finish: 2, around: base}\n"
    found = read(tmp_path, TEXT + line).search
    assert (found.rule, found.trials, found.at, found.finish) == ("ladder", 12, (0.25, 0.5), 2)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{rule: hyperband}", "search.rule"),
        ("{at: [1.5]}", "search.at"),
        ("{trails: 9}", 'unknown key "trails"'),
        ("{around: fixed}", "fixed has no `space`"),
        ("{around: no}", 'no variant "no"'),
    ],
)
def test_a_wrong_search_is_refused_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(SweepFileError, match=re.escape(problem)) as refused:
        read(tmp_path, f"{TEXT}search: {line}\n")
    assert str(refused.value).startswith("s.yaml:13: ")


def test_a_condition_on_what_is_not_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepFileError, match="s.yaml:10: .*mode, which is not searched before"):
        read(tmp_path, TEXT.replace("when: {opt: sgd}", "when: {mode: sgd}"))


def test_a_ladder_of_twenty_costs_a_third() -> None:
    # 20 to epoch 4, 10 on to 8, 5 on to 15, 3 on to 30.
    assert SyncHalving(30).most_epochs(20) == 80 + 40 + 35 + 45
    assert SyncHalving(30).most_epochs(1) == 30


def test_an_estimate_ranks_the_rules() -> None:
    curves, measured = curves_for([], 30)
    assert not measured
    found = {one.rule: one for one in estimate(Search(), curves, 20, None)}
    assert found["ladder"].share[1] < found["halving"].share[1] < found["none"].share[1] <= 1
    assert all(one.share[0] <= one.share[1] <= one.share[2] for one in (found["halving"],))


def test_measured_curves_are_preferred_once_there_are_enough() -> None:
    whole = [MeasuredCurve([0.1 * n, 0.2]) for n in range(8)]
    assert curves_for([*whole, MeasuredCurve([0.5])], 2) == (whole, True)
    assert not curves_for(whole[:7], 2)[1]
