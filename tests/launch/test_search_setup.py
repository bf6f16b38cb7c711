"""Before and beside a search: around which variant, how much, what is known, what is spent."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.job.exit_cause import Outcome
from pipeline.job.resolve import Change, ResolvedConfig
from pipeline.launch.budget import Budget
from pipeline.launch.completion import CompletionQueue
from pipeline.launch.context import RunOrder, SearchOrder
from pipeline.launch.reporters import Reporter
from pipeline.launch.search import _passed, next_search, other_launches_gpu_hours
from pipeline.launch.search_rule import averaged_checks
from pipeline.launch.search_setup import (
    as_search_point,
    choose_variant,
    make_order,
    max_parallel,
    settle_trials,
)
from pipeline.manage.clean import find_deletable
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.rundir import RunDir
from pipeline.study.trial_rows import TrialRow, hours_so_far

TEXT = """\
name: s
config: c.py
objective: {metric: acc/top1}
job: {gpus: 2, epoch_minutes: 15}
variants:
  base:
    set: {lr: 1e-3, weights: [1.0, 2.0]}
    space:
      lr: {low: 5e-4, high: 6e-3, log: true}
      weights.1: {low: 1.0, high: 2.0}
  pose: {like: base, set: {weights: [1.0, 1.5]}}
  wide: {like: base, set: {lr: 1.0}, space: {}}
  long: {like: base, set: {epochs: 50}}
  cold: {like: base, set: {}}
ladder: {start: base}
search: {rule: ladder, read: best}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "s.yaml").write_text(TEXT)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


def row(variant: str, number: int = 0, **values: Any) -> TrialRow:
    given = {f.name: None for f in dataclasses.fields(TrialRow)}
    known = {"params": {}, "verdicts": [], "facts": {}, "attempt": 1, "epoch": 0, "seconds": 0.0}
    named = {"variant": variant, "number": number, "trial_id": number, "state": "COMPLETE"}
    return TrialRow(**{**given, **known, **named, "phase": "done", **values})


def config(**changes: Any) -> ResolvedConfig:
    olds = {"lr": 1e-2, "weights.0": 1.0, "weights.1": 1.0, "epochs": 30}
    found = tuple(Change(path=p, old=olds[p], new=v) for p, v in changes.items())
    return ResolvedConfig(text="", hash="h", changes=found, facts={"max_epochs": 8})


CONFIGS: Mapping[str, ResolvedConfig] = {
    "base": config(lr=1e-3, **{"weights.1": 2.0}),
    "pose": config(lr=1e-3, **{"weights.1": 1.5}),
    "wide": config(lr=1.0, **{"weights.1": 2.0}),
    "long": config(lr=1e-3, epochs=50, **{"weights.1": 2.0}),
}


def test_a_search_goes_around_the_named_the_begun_or_the_best(sweep: Sweep) -> None:
    recipes = [
        row("base", recipe_hash="a", best_top1=0.5),
        row("pose", recipe_hash="b", best_top1=0.6),
    ]
    assert choose_variant(sweep, [], None) == "base"
    assert choose_variant(sweep, recipes, None) == "pose"
    begun = [*recipes, row("base", 1, facts={"search": "ladder"})]
    assert choose_variant(sweep, begun, None) == "base"
    assert choose_variant(sweep, begun, "pose") == "pose"
    with pytest.raises(InputError, match='"wide" has no `space`'):
        choose_variant(sweep, [], "wide")
    with pytest.raises(InputError, match='"none" is not a variant'):
        choose_variant(sweep, [], "none")


def test_how_much_has_to_be_said(sweep: Sweep) -> None:
    with pytest.raises(InputError, match="--trials N or --gpu-hours H"):
        make_order(sweep, "base", None, None)
    assert make_order(sweep, "base", 5, None).trials == 5


def context(sweep: Sweep) -> Any:
    resolution = types.SimpleNamespace(configs=CONFIGS)
    hashes = {name: "h" for name in sweep.variants}
    recipes = lambda _rows: hashes  # noqa: E731
    return types.SimpleNamespace(sweep=sweep, resolution=resolution, recipes=recipes)


def test_a_ladder_has_as_many_trials_as_its_hours_pay_for(sweep: Sweep) -> None:
    order = make_order(sweep, "base", None, 10.0)  # 20 epochs of half a GPU hour
    # Of 8 epochs, checked after 1, 2 and 4: five trials cost 5 + 3 + 2 * 3 + 4 * 3 = 26.
    assert settle_trials(context(sweep), order, []) == 3
    assert settle_trials(context(sweep), dataclasses.replace(order, gpu_hours=13.0), []) == 5
    measured = [row("base", epoch=10, seconds=900.0)]  # 0.05 GPU hours an epoch
    assert settle_trials(context(sweep), order, measured) > 30


def test_hours_that_are_used_up_want_nothing_more(sweep: Sweep) -> None:
    spent = [row("base", 1, facts={"search": "ladder"}, seconds=3600.0)]
    plan = next_search(context(sweep), SearchOrder(variant="base", trials=9, gpu_hours=2.0), spent)
    assert plan.requests == ()
    assert plan.why == "The search's 2 GPU hours are used up (1 trial: 1 complete)"
    more = next_search(context(sweep), SearchOrder(variant="base", trials=9, gpu_hours=2.1), spent)
    assert [want.trials for want in more.requests] == [9]


def test_hours_count_what_running_jobs_have_spent_so_far(sweep: Sweep) -> None:
    began = {"attempt_started": 1000.0}
    running = row("base", 2, state="RUNNING", seconds=60.0, facts=began, read_at=1300.0)
    running = dataclasses.replace(running, phase="running")
    rows = [row("base", 1, seconds=3600.0), running]
    assert hours_so_far(sweep, rows) == pytest.approx(2 * (3600 + 60 + 300) / 3600)
    # A launch that runs trial 2 counts its job by itself.
    assert hours_so_far(sweep, rows, without=[2]) == pytest.approx(2 * (3600 + 60) / 3600)


def spending(sweep: Sweep, hours: float | None, rows: list[TrialRow]) -> Any:
    order = RunOrder(search=SearchOrder(variant="base", trials=9, gpu_hours=hours))
    extra = {"order": order, "rows": lambda: rows}
    return types.SimpleNamespace(**vars(context(sweep)), **extra)


def test_what_others_spend_meanwhile_ends_a_launch_of_the_same_search(sweep: Sweep) -> None:
    facts = {"search": "none", "attempt_started": 0.0}
    rows = [row("base", n, state="RUNNING", facts=facts, read_at=1800.0) for n in (1, 2)]
    rows = [dataclasses.replace(one, phase="running") for one in rows]
    assert other_launches_gpu_hours(spending(sweep, None, rows), [1]) is None
    spent = other_launches_gpu_hours(spending(sweep, 2.0, rows), [1])  # this launch runs trial 1
    assert spent == pytest.approx(1.0)
    budget, mine = Budget(gpu_hours=2.0, whose="search"), [types.SimpleNamespace(job_seconds=1800)]
    assert budget.exceeded(mine, 2) is None, "alone it would go on"
    budget.count_from(spent)
    assert budget.exceeded(mine, 2) == "the search's 2 GPU hours (--gpu-hours) are used up"


def test_no_more_jobs_at_once_than_whole_trials_fit(sweep: Sweep) -> None:
    # A trial: 8 epochs of a quarter hour on two GPUs, 4 GPU hours.
    assert max_parallel(spending(sweep, 13.0, []), 32) == 3
    assert max_parallel(spending(sweep, 1.0, []), 32) == 1
    assert max_parallel(spending(sweep, 1000.0, []), 32) == 32
    assert max_parallel(spending(sweep, None, []), 32) == 32


def test_recipes_that_differ_in_searched_values_alone_are_known(sweep: Sweep) -> None:
    assert as_search_point(sweep, CONFIGS, "base", "pose") == (
        {"lr": 1e-3, "weights.1": 1.5},
        None,
    )
    assert (
        as_search_point(sweep, CONFIGS, "base", "wide")[1]
        == "lr = 1.0 is outside the searched range"
    )
    why = "long also changes epochs, which is not searched"
    assert as_search_point(sweep, CONFIGS, "base", "long")[1] == why


def test_the_checkpoints_of_a_paused_trial_are_not_cleaned(sweep: Sweep, tmp_path: Path) -> None:
    project = Project(root=tmp_path)
    rows = [
        row("base", 1, best_top1=0.9),
        row("base", 2, state="PRUNED", best_top1=0.5),
        row("base", 3, state="RUNNING", phase="paused", best_top1=0.6),
    ]
    for number in (1, 2, 3):
        folder = project.runs / "s" / "base" / str(number) / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "epoch_1.pth").write_bytes(b"x")
    assert [loser.trial for loser in find_deletable(sweep, project, rows).deletable] == ["base/2"]


def failing(name: str, epochs: int) -> Any:
    return types.SimpleNamespace(
        name=name, history=[0] * epochs, write_outcome=lambda outcome: None
    )


def test_a_search_whose_trials_all_fail_at_once_ends(sweep: Sweep) -> None:
    search = types.SimpleNamespace(search=SearchOrder(variant="base", trials=9))
    current: Any = types.SimpleNamespace(value=types.SimpleNamespace(order=search))
    stops: Any = None
    queue = CompletionQueue(current, stops, Reporter())
    bad = Outcome(state="FAIL", cause="bad_data", reason="r")
    nan = Outcome(state="FAIL", cause="nan", reason="r")
    said = [queue.add(failing(f"base/{n}", 0), bad) for n in range(2)]
    said += [queue.add(failing("base/2", 0), nan), queue.add(failing("base/3", 1), bad)]
    said += [queue.add(failing(f"base/{n}", 0), bad) for n in range(4, 6)]
    assert said == [None] * 6
    assert "last 3 trials failed before their first epoch (bad_data)" in str(
        queue.add(failing("base/6", 0), bad)
    )


def test_only_a_recorded_go_lets_a_trial_pass(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.verdicts.write_text(
        '{"epoch": 1, "rule": "epoch 1 ladder", "verdict": "pause"}\n'
        '{"epoch": 1, "rule": "epoch 1 ladder", "verdict": "go"}\n'
        '{"epoch": 2, "rule": "epoch 2 ladder", "verdict": "pause"}\n'
        '{"epoch": 4, "rule": "epoch 4 gate", "verdict": "go"}\n'
        "torn"
    )
    assert _passed(rundir) == frozenset({1})


@pytest.mark.parametrize(
    ("trials", "known", "checks"), [(3, 0, ()), (4, 0, (3, 4)), (3, 1, (3, 4)), (20, 0, (3, 4))]
)
def test_averages_are_read_where_somebody_can_be_stopped(
    sweep: Sweep, trials: int, known: int, checks: tuple[int, ...]
) -> None:
    waiting = row("base", 9, recipe_hash="a", state="WAITING")
    before = [row("base", n, recipe_hash="b", epoch=8) for n in range(known)]
    context: Any = types.SimpleNamespace(
        sweep=sweep,
        resolution=types.SimpleNamespace(configs=CONFIGS),
        order=RunOrder(search=SearchOrder(variant="base", trials=trials)),
        rows=lambda: [waiting, *before],
    )
    lease: Any = types.SimpleNamespace(
        variant="base", facts={"search": "ladder", "read": "averaged"}
    )
    named = sweep.search.model_copy(update={"read": "averaged"})
    context.sweep = sweep.model_copy(update={"search": named})
    assert averaged_checks(context, lease) == checks
    lease.facts = {}
    assert averaged_checks(context, lease) == (), "no trial of a search"
