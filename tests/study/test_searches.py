"""What more trials of a search would gain, from a storage's own rows."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.plan.search.expected_gain import ENOUGH
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.register import recipe_of, register
from pipeline.study.sampler import SamplerOptions
from pipeline.study.searches import outlook, outlooks
from pipeline.study.trial_rows import read_board
from tiny_project import Project

VARIANTS = "  baseline: {set: {lr: 1e-3}, space: {lr: {low: 1e-4, high: 1e-2, log: true}}}\n"
ENDS = [0.5 + 0.4 * (7 * n % 17) / 17 for n in range(ENOUGH)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Project, Sweep, Storage]]:
    project = Project(tmp_path)
    project.sweep(VARIANTS)
    sweep = read_sweep(tmp_path / "sweeps" / "tiny.yaml", tmp_path)
    storage = open_storage(None, tmp_path / "runs")
    register(sweep, storage, {"baseline": recipe_of(sweep.variants["baseline"], "h")})
    yield project, sweep, storage
    storage.close()


def drawn(sweep: Sweep, storage: Storage):
    want = ClaimRequest(
        variant="baseline", trials=100, recipe_hash="h", search=SamplerOptions(seed=0)
    )
    lease = claim(sweep, storage, [want])
    lease.begin("runs/tiny/x", "cpu", dict(lease.previous["facts"] or {}))
    return lease


def search(sweep: Sweep, storage: Storage, ends: list[float]) -> None:
    """Finish trials with these values; every third is pruned."""
    for place, end in enumerate(ends):
        state = "PRUNED" if place % 3 == 2 else "COMPLETE"
        curve = [Measurement(epoch=1, top1=end)]
        reported = {"cause": None, "reason": "done", "verdicts": [], "seconds": 1800.0}
        drawn(sweep, storage).tell(state, curve, **reported)


def test_a_sweep_without_a_search_has_no_outlook(place) -> None:
    _, sweep, storage = place
    assert outlooks(sweep, read_board(sweep.name, storage)) == []


def test_too_few_finished_trials_say_why_there_is_no_forecast(place) -> None:
    _, sweep, storage = place
    search(sweep, storage, ENDS[:3])
    found = outlook(sweep, read_board(sweep.name, storage), "baseline")
    assert found.forecast is None and found.record()["expected_gain"] is None
    assert found.sentence == (
        "What 5 more trials would gain is not said: that takes 16 finished trials, 3 are finished."
    )


def test_enough_finished_trials_say_gain_and_hours(place) -> None:
    project, sweep, storage = place
    search(sweep, storage, ENDS)
    done = project.run("sweep", "status", "tiny", "--json")
    found = json.loads(done.stdout)["searches"][0]
    assert 0 < found["expected_gain"] < found["interval"][1] < 0.2
    assert found["gpu_hours"] == 5.0  # half an hour on two processes, five times
    shown: subprocess.CompletedProcess[str] = project.run("sweep", "status", "tiny")
    assert f"Search around baseline: {found['sentence']}" in " ".join(shown.stdout.split())
    assert found["sentence"].startswith("5 more trials are expected to gain ")


def test_a_paused_trial_leaves_the_gain_open(place) -> None:
    _, sweep, storage = place
    search(sweep, storage, ENDS)
    drawn(sweep, storage).release("paused", cause="paused", reason="", seconds=1.0)
    found = outlook(sweep, read_board(sweep.name, storage), "baseline")
    assert found.forecast is None and "1 is paused" in found.sentence


def test_a_stopped_trial_counts_as_no_better_than_the_best(place) -> None:
    _, sweep, storage = place
    search(sweep, storage, [*ENDS[:2], 0.99, *ENDS[3:]])  # the third is pruned
    high = outlook(sweep, read_board(sweep.name, storage), "baseline").forecast
    assert high is not None and high.mean < 0.1
