"""A search on a real SLURM: its jobs, a ladder's barrier across them, its hours."""

import json
from collections.abc import Callable

import pytest

from slurm_project import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

#: The second epoch's value is drawn, so that trials differ at the check after it.
VARIANTS = """\
  baseline:
    set:
      train_cfg.max_epochs: 4
      val_evaluator.top1: [0.3, 0.6, 0.7, 0.95]
      model.sleep: 0.5
    space:
      val_evaluator.top1.1: {low: 0.4, high: 0.9}
"""


def search(cluster: Cluster, *words: str):
    return cluster.launch(*words, verb="search")


def searched(cluster: Cluster) -> dict:
    """Return the trials of the search; the plan's own recipe waits beside them."""
    return {k: t for k, t in cluster.project.status().items() if k != "baseline/0"}


@pytest.mark.slow
@pytest.mark.sample
def test_a_ladder_pauses_and_goes_on_across_jobs(cluster, until: Callable[..., None]) -> None:
    cluster.write(VARIANTS, "search: {rule: ladder, read: best, at: [0.5], finish: 1, seed: 3}\n")
    cluster.wait(search(cluster, "--trials", "4", "--wandb", "offline"))
    until(lambda: not cluster.project.job_pids(), "no process is left")
    trials = searched(cluster)
    reported = cluster.reported()
    assert sorted(t["state"] for t in trials.values()) == ["COMPLETE"] * 2 + ["PRUNED"] * 2, (
        reported
    )
    better = sorted(trials.values(), key=lambda t: t["params"]["val_evaluator.top1.1"])[2:]
    assert [t["state"] for t in better] == ["COMPLETE"] * 2, reported
    assert len({t["params"]["val_evaluator.top1.1"] for t in trials.values()}) == 4, reported
    assert {t["job"]["engine"] for t in trials.values()} == {"slurm"}
    assert set(cluster.placed().values()) <= {"GPU-0,GPU-1", "GPU-2,GPU-3"}
    assert {state.split()[0] for state in cluster.states()} <= {"COMPLETED", "CANCELLED"}, reported
    assert "Searching around baseline: 4 trials (ladder, checked after epoch 2)." in cluster.said()
    assert "The search has run its 4 trials: 2 complete, 2 pruned." in cluster.said()
    for name, trial in trials.items():  # each epoch once, whichever job's mirror wrote it
        kept = json.loads((cluster.project.folder(name) / "wandb" / "pcan_sync.json").read_text())
        assert sum(f["rows"] for f in kept["fragments"] if f["closed"]) == trial["epochs"], (
            reported
        )
    before = len(cluster.mine())
    cluster.wait(search(cluster, "--trials", "4"))
    assert len(cluster.mine()) == before, "nothing was left to do"


@pytest.mark.slow
@pytest.mark.sample
def test_a_search_stops_at_its_hours_and_asks_for_no_job_until_there_are_more(
    cluster, until: Callable[..., None]
) -> None:
    cluster.write(VARIANTS.replace("sleep: 0.5", "sleep: 2"), "search: {rule: none}\n")
    cluster.wait(search(cluster, "--gpu-hours", str(30 / 3600)), 75)
    until(lambda: not cluster.project.job_pids(), "no process is left")
    trials = searched(cluster)
    assert {t["phase"] for t in trials.values()} <= {"interrupted", "done"}, cluster.reported()
    stopped = {name: t for name, t in trials.items() if t["phase"] == "interrupted"}
    assert stopped and all(t["cause"] == "budget" for t in stopped.values()), cluster.reported()
    spent = sum(t["gpu_hours"] for t in trials.values()) * 3600
    assert spent >= 30, cluster.reported()
    jobs = len(cluster.mine())
    assert "Nothing is left to run: what still waited is cancelled" in cluster.said()
    assert not any(state.startswith("PENDING") for state in cluster.states())
    cluster.wait(search(cluster, "--gpu-hours", str(30 / 3600)), 3)
    assert "GPU hours are used up (" in cluster.said()
    assert len(cluster.mine()) == jobs, "a search without hours asks for no job"
    cluster.wait(search(cluster, "--trials", str(len(trials))))
    trials = searched(cluster)
    assert {t["state"] for t in trials.values()} == {"COMPLETE"}, cluster.reported()
    assert all(cluster.project.epochs(name) == [1, 2, 3, 4] for name in trials)
