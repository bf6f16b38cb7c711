"""How often a floor stops a run that ends at the goal: held to SciPy, and on drawn runs."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.plan.lint.floor_error import (
    ALLOWED,
    AfterRuns,
    FinishedRun,
    FloorError,
    InsideBand,
    floor_errors,
)
from pipeline.plan.lint.lint_finding import LintContext
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.db.storage import open_storage
from pipeline.study.import_trials import ImportedRun, add_finished
from pipeline.study.register import recipe_of, register
from pipeline.study.trial_curves import finished_runs
from tiny_project import Project

RUNS = [
    FinishedRun(variant="baseline", values={1: 0.70, 2: 0.80, 3: 0.88}),
    FinishedRun(variant="baseline", values={1: 0.72, 2: 0.86, 3: 0.90}),
    FinishedRun(variant="baseline", values={1: 0.64, 2: 0.80, 3: 0.85}),
    FinishedRun(variant="other", values={1: 0.30, 2: 0.80, 3: 0.89}),
]
VARIANTS = "  baseline: {set: {lr: 1e-3}}\n  other: {like: baseline, set: {lr: 1e-2}}\n"


def sweep_of(tmp_path: Path, bands: str = "", **changed: str) -> Sweep:
    project = Project(tmp_path)
    project.sweep(VARIANTS)
    file = tmp_path / "sweeps" / "tiny.yaml"
    text = file.read_text() + bands
    for old, new in changed.items():
        text = text.replace(f"{old}:", f"{new}:") if new else _without(text, old)
    file.write_text(text)
    return read_sweep(file, tmp_path)


def _without(text: str, key: str) -> str:
    return "".join(line for line in text.splitlines(True) if f" {key}: " not in line)


def one(tmp_path: Path, runs: list[FinishedRun], clips: int | None = 500, **more) -> FloorError:
    [found] = floor_errors(LintContext(sweep=sweep_of(tmp_path, **more), clips=clips), runs)
    return found


def test_the_error_after_runs_is_scipys_prediction_by_students_t() -> None:
    runs = RUNS[:3]
    levels = np.array([0.9 - run.end + run.values[1] for run in runs])
    spread = levels.std(ddof=1) * math.sqrt(1 + 1 / 3)
    found = AfterRuns.of(0.9, 1, runs, clips=100_000)
    for floor in (0.0, 0.5, 0.7, 0.74, 0.8):
        expected = stats.t.cdf(floor, df=2, loc=levels.mean(), scale=spread)
        assert found.below(floor) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("clips", [32, 127, 16487])
def test_the_error_inside_a_band_is_scipys_binomial(clips: int) -> None:
    found = InsideBand(low=0.85, high=0.90, clips=clips)
    shares = 0.85 + 0.05 * (np.arange(50) + 0.5) / 50
    for floor in (0.80, 0.84, 0.86, 0.875):
        most = math.ceil(round(floor * clips, 6)) - 1  # hits that are stopped
        expected = stats.binom.cdf(most, clips, shares).mean()
        assert found.below(floor) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_few_clips_widen_what_equal_runs_leave(tmp_path: Path) -> None:
    equal = [FinishedRun(variant="baseline", values={1: 0.6, 2: 0.9})] * 3
    errors = [
        one(tmp_path / str(n), equal, n) for n in (32, 5000) if not (tmp_path / str(n)).mkdir()
    ]
    assert errors[0].stops > errors[1].stops
    assert errors[0].proposed < errors[1].proposed < 0.6


def test_the_proposed_floor_is_the_highest_with_a_small_error(tmp_path: Path) -> None:
    found = one(tmp_path, RUNS)
    after = AfterRuns.of(0.9, 1, RUNS[:3], 500)  # the variant's own are enough
    assert found.source == "from 3 earlier runs of baseline"
    assert after.below(found.proposed) <= ALLOWED < after.below(found.proposed + 0.001)
    assert found.stops == after.below(0.5)


@pytest.mark.parametrize(
    ("runs", "more", "why"),
    [
        ([], {}, "0 of 3 earlier runs have that epoch and the plan has no band there"),
        (RUNS[:2], {}, "2 of 3 earlier runs have that epoch and the plan has no band there"),
        (RUNS, {"goal": ""}, "the plan has no goal"),
        ([], {"clips": None, "bands": "bands: [{epoch: 1, top1: [0.6, 0.7]}]\n"}, "--clips N"),
    ],
)
def test_what_is_not_known_is_called_unknown(tmp_path: Path, runs, more, why: str) -> None:
    found = one(tmp_path, runs, **more)
    assert (found.stops, found.proposed) == (None, None)
    assert found.sentence.startswith("epoch 1 floor 50.00 %: unknown, ") and why in found.sentence


def test_without_runs_the_plans_band_stands_in(tmp_path: Path) -> None:
    found = one(tmp_path, [], bands="bands: [{epoch: 1, top1: [0.5, 0.7]}]\n")
    assert found.stops == InsideBand(low=0.5, high=0.7, clips=500).below(0.5)
    assert "from the plan's band 50.0 % to 70.0 %, 500 clips" in found.sentence


@pytest.mark.parametrize("count", [3, 6, 20])
def test_a_proposed_floor_stops_about_one_run_in_twenty(count: int) -> None:
    """Runs that gain as others did, each read on 500 clips, all of them ending at the goal."""
    rng, stopped = random.Random(count), []
    for _ in range(400):
        runs = [drawn(rng) for _ in range(count + 1)]
        found = AfterRuns.of(0.9, 1, runs[1:], 500)
        floor = next(f / 500 for f in range(500, -1, -1) if found.below(f / 500) <= ALLOWED)
        stopped.append(runs[0].values[1] < floor)
    assert 0.01 <= sum(stopped) / len(stopped) <= 0.08


def imported(run: FinishedRun, place: int) -> ImportedRun:
    history = [Measurement(epoch=epoch, top1=value) for epoch, value in run.values.items()]
    return ImportedRun(
        variant=run.variant,
        params={},
        history=history,
        state="COMPLETE",
        cause=None,
        reason="done",
        source={"log": f"{place}.json", "sha256": f"{place}" * 64},
        facts={"epochs": 3},
    )


def drawn(rng: random.Random) -> FinishedRun:
    share = rng.gauss(0.7, 0.05)
    reading = sum(rng.random() < share for _ in range(500)) / 500
    return FinishedRun(variant="baseline", values={1: reading, 5: 0.9})


def test_the_command_uses_the_storages_runs(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    project = Project.__new__(Project)
    project.root = tmp_path
    storage = open_storage(None, tmp_path / "runs")
    register(sweep, storage, {n: recipe_of(v, n) for n, v in sweep.variants.items()})
    for place, run in enumerate(RUNS[:3]):
        add_finished(sweep, storage, imported(run, place), lambda number, uid: True)
    assert [run.values for run in finished_runs(sweep, storage)] == [r.values for r in RUNS[:3]]
    storage.close()
    words = ("gates", "lint", "tiny", "--offline", "--clips", "500")
    done = project.run(*words, "--json")
    found = json.loads(done.stdout)["floors"]
    assert [(f["epoch"], f["floor"]) for f in found] == [(1, 0.5)]
    assert 0 < found[0]["stops"] < 0.05 and 0.5 < found[0]["proposed"] < 0.7
    shown = project.run(*words).stdout
    assert f"{found[0]['where']}: {found[0]['sentence']}" in shown
