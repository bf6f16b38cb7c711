"""The simulator: what the rules cost and lose, and that it decides as the judge does."""

import importlib.util
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline.plan.judge import Rules, judge
from pipeline.plan.search.rules import (
    AsyncHalving,
    NoRule,
    Reachability,
    SyncHalving,
    TrialProgress,
)
from pipeline.plan.search.rung_judge import RungRules
from pipeline.plan.search.simulate import LearningCurve, SimulatedSweep, simulate
from pipeline.plan.sweep import Patience
from pipeline.shared.measurement import Measurement
from replayed_sweeps import sweeps

PATIENCE = Patience(epochs=15, min_delta=0.0005)
#: Name of the reference simulator's policy -> our rule, and whether the guard is on.
SAME = {
    "OWN A: rungs T/8,T/4,T/2 half": (AsyncHalving, False),
    "OWN C: resume ladder T/8,T/4,T/2 half": (lambda epochs: SyncHalving(epochs, least=1), True),
    "OWN C3: same ladder, at least 3 finish": (SyncHalving, True),
}


def made_up(count: int, epochs: int = 24, seed: int = 1) -> list[list[float]]:
    """Return curves that rise, cross and sometimes diverge, with many equal values."""
    rng = random.Random(seed)
    curves = []
    for _ in range(count):
        top, speed = rng.uniform(0.3, 0.9), rng.uniform(0.5, 8)
        values = [round(top * (1 - math.exp(-e / speed)), 2) for e in range(1, epochs + 1)]
        if rng.random() < 0.2:
            values[rng.randrange(epochs) :] = [math.nan]
            values += [math.nan] * (epochs - len(values))
        curves.append(values)
    return curves


def guarded(rows: Sequence[Sequence[float]]) -> list[LearningCurve]:
    return [LearningCurve.of(row, patience=PATIENCE) for row in rows]


@pytest.mark.parametrize("rule", [AsyncHalving, SyncHalving, NoRule])
def test_nothing_is_trained_after_the_first_value_that_is_not_finite(rule) -> None:
    rows = made_up(40)
    done = simulate(guarded(rows), rule(24))
    first = [next((e for e, v in enumerate(r, 1) if math.isnan(v)), 24) for r in rows]
    assert all(epochs <= end for epochs, end in zip(done.trained, first, strict=True))


def test_without_a_rule_everything_is_trained() -> None:
    rows = [r for r in made_up(40) if not any(map(math.isnan, r))]
    done = simulate([LearningCurve.of(r) for r in rows], NoRule(24))
    assert (done.cost, done.regret, set(done.states)) == (1.0, 0.0, {"COMPLETE"})


def test_a_ladder_costs_the_same_with_any_number_of_workers() -> None:
    curves = guarded(made_up(20))
    costs = {simulate(curves, SyncHalving(24), w, random.Random(3)).cost for w in (1, 4, 16)}
    assert len(costs) == 1


def test_known_runs_are_compared_with_from_the_start() -> None:
    rows = [[0.5] * 8, [0.6] * 8]
    alone = simulate([LearningCurve.of(r) for r in rows], AsyncHalving(8))
    known = simulate(
        [LearningCurve.of(r) for r in rows], AsyncHalving(8), known=[LearningCurve.of([0.7] * 8)]
    )
    assert alone.trained == (8, 8) and known.trained == (1, 2)


def judged(rows: Sequence[Sequence[float]], rule: AsyncHalving) -> tuple[list[int], list[str]]:
    """Run one sweep through the judge of running trials, one trial at a time, as a launch does."""
    trials = [_Judged(number, row) for number, row in enumerate(rows)]
    while any(t.state in ("WAITING", "PAUSED") for t in trials):
        for trial in trials:
            if trial.state in ("WAITING", "PAUSED"):
                trial.go(trials, rule)
    return [len(t.history) for t in trials], [t.state for t in trials]


class _Judged:
    def __init__(self, number: int, row: Sequence[float]) -> None:
        self.number, self.row, self.state = number, row, "WAITING"
        self.history: list[Measurement] = []
        self.passed: frozenset[int] = frozenset()

    def go(self, trials: Sequence["_Judged"], rule: AsyncHalving) -> None:
        """Train until a verdict ends the trial or lets it wait."""
        if self.state == "PAUSED" and not self._verdict(trials, rule):
            return
        while self.state not in ("FAIL", "PRUNED", "COMPLETE"):
            epoch = len(self.history) + 1
            self.history.append(Measurement(epoch=epoch, top1=self.row[epoch - 1]))
            if not self._verdict(trials, rule):
                return

    def _verdict(self, trials: Sequence["_Judged"], rule: AsyncHalving) -> bool:
        others = [t.standing(rule) for t in trials if t is not self]
        rules = Rules(
            patience=PATIENCE,
            search=RungRules(
                rule=rule,
                number=self.number,
                field=lambda check: rule.field(others, check),
                passed=self.passed,
            ),
        )
        verdict = judge(self.history, rules)
        if not verdict.stops:
            due = rule.due(len(self.history), self.passed)
            self.passed |= {due} if due is not None else set()
        self.state = verdict.state or ("PAUSED" if verdict.stops else "RUNNING")
        if not verdict.stops and len(self.history) == len(self.row):
            self.state = "COMPLETE"
        return self.state == "RUNNING"

    def standing(self, rule: AsyncHalving) -> TrialProgress:
        values = [m.top1 for m in self.history]
        bests = {
            c: max(v for v in values[:c] if math.isfinite(v))
            for c in rule.checks
            if c <= len(values) and math.isfinite(values[c - 1])
        }
        way = {
            "PRUNED": Reachability.OUT,
            "FAIL": Reachability.ENDED,
            "COMPLETE": Reachability.ENDED,
        }
        return TrialProgress(
            self.number, len(values), bests, way.get(self.state, Reachability.OPEN)
        )


def check_alike(draw: Callable[[int], list[list[float]]], sweep_count: int) -> int:
    """Hold the judge against the simulator on so many sweeps; return the trials compared."""
    compared = 0
    for index in range(sweep_count):
        rows = draw(index)
        rule = (AsyncHalving, SyncHalving)[index % 2](len(rows[0]))
        done = simulate(guarded(rows), rule)
        trained, states = judged(rows, rule)
        assert (list(done.trained), list(done.states)) == (trained, states), (index, rule)
        compared += len(rows)
    return compared


def test_the_judge_and_the_simulator_decide_alike() -> None:
    assert check_alike(lambda index: made_up(20, seed=index), 20) == 400


@pytest.fixture(scope="session")
def curve_files() -> dict[str, list[list[float]]]:
    """The real curves, as fractions: 0 is chance level, 1 the best of the file."""
    folder = _beside_data("data") / "curves"
    files = sorted(folder.glob("taskset_*.npz"))
    if len(files) != 4:
        pytest.skip(f"real curves absent: no four taskset files in {folder} (set PCAN_DATA)")
    return {file.stem: _fractions(file) for file in files}


def _fractions(file: Path) -> list[list[float]]:
    with np.load(file) as content:
        loss = content["valid_loss"].astype(float)[:, 1:]  # the first was before training
    loss[~np.isfinite(loss)] = np.nan
    chance = math.log(2)
    return ((chance - loss) / (chance - np.nanmin(loss))).tolist()


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The reference simulator, which knows the same rules by another's hand."""
    file = _beside_data("tools") / "prune_sim.py"
    if not file.is_file():
        pytest.skip("the reference simulator is absent (tools/prune_sim.py beside PCAN_DATA)")
    spec = importlib.util.spec_from_file_location("prune_sim", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _beside_data(name: str) -> Path:
    root = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("PCAN_DATA") or root.parent / "shared" / "data")
    return data.parent / name if name != "data" else data


def compare_with_reference(reference: ModuleType, rows, sweep_count: int) -> None:
    """Replay the same sweeps in both simulators; every cost and regret has to be the same."""
    curves = reference.Curves("x", 100 * np.array(rows))
    for policy, (make, guard) in SAME.items():
        ours = [LearningCurve.of(row, guard=guard) for row in rows]
        for index in range(sweep_count):
            picked = np.random.default_rng([0, index]).permutation(len(rows))[:20]
            context = dict(reference=None, study="s", curves=curves, name="x", final=None)
            theirs = reference.simulate(
                curves, picked, reference.catalogue()[policy](), 1, None, context
            )
            mine = simulate([ours[i] for i in picked], make(len(rows[0])))
            assert mine.cost == pytest.approx(theirs["cost"], abs=1e-12), (policy, index)
            assert mine.regret == pytest.approx(theirs["regret"] / 100, abs=1e-9)


def test_the_plain_rules_are_the_reference_simulators(curve_files, reference) -> None:
    for rows in curve_files.values():
        compare_with_reference(reference, rows, 10)


@pytest.mark.slow
def test_the_plain_rules_are_the_reference_simulators_on_500_sweeps(
    curve_files, reference
) -> None:
    for rows in curve_files.values():
        compare_with_reference(reference, rows, 500)


def figures(found: Sequence[SimulatedSweep]) -> tuple[float, float]:
    """Return the mean share of the epochs and the share of misses."""
    costs, misses = [f.cost for f in found], [f.missed for f in found]
    return sum(costs) / len(costs), sum(misses) / len(misses)


@pytest.mark.slow
@pytest.mark.sample
def test_the_targets_on_real_curves(curve_files) -> None:
    rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for values in curve_files.values():
        curves = guarded(values)
        for make in (AsyncHalving, SyncHalving):
            for workers in (1, 4, 16):
                found = sweeps(curves, make, 20, 500, workers)
                rows.setdefault((make.name, workers), []).append(figures(found))
    means = {key: tuple(np.mean(found, axis=0)) for key, found in rows.items()}
    for (name, workers), (cost, miss) in means.items():
        print(
            f"{name} {workers} workers: {100 * cost:.1f} % of the epochs, {100 * miss:.1f} % miss"
        )
    for workers in (1, 4, 16):
        assert means["halving", workers][0] <= 0.50 and means["halving", workers][1] <= 0.09
        assert means["ladder", workers][0] <= 0.35 and means["ladder", workers][1] <= 0.07
    for name in ("halving", "ladder"):
        costs = [means[name, workers][0] for workers in (1, 4, 16)]
        assert max(costs) - min(costs) <= 0.03


@pytest.mark.slow
def test_the_judge_and_the_simulator_decide_alike_on_10_000_trials(curve_files) -> None:
    files = list(curve_files.values())

    def draw(index: int) -> list[list[float]]:
        return random.Random(index).sample(files[index % 4], 20)

    assert check_alike(draw, 500) == 10_000
