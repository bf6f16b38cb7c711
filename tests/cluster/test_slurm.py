"""A sweep on a real SLURM: places, requeues, cancellations, and what must be refused at once."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement
from slurm_project import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.mark.slow
@pytest.mark.sample
def test_two_run_at_once_on_distinct_pairs_while_a_third_waits(
    cluster, until: Callable[..., None]
) -> None:
    cluster.sweep(variants=3, epochs=3)
    launch = cluster.launch("--policy", "all")
    until(lambda: len(cluster.placed()) == 2, "two trials run")
    assert sorted(cluster.placed().values()) == ["GPU-0,GPU-1", "GPU-2,GPU-3"]
    status = json.loads(cluster.project.run("sweep", "status", "tiny", "--json").stdout)
    jobs = sorted(status["jobs"], key=lambda job: job["id"])
    assert [(job["state"], bool(job["trial"])) for job in jobs] == [
        ("RUNNING", True),
        ("RUNNING", True),
        ("PENDING", False),
    ]
    assert jobs[2]["reason"] in ("Resources", "Priority")
    shown = cluster.project.run("sweep", "status", "tiny").stdout
    assert f"Cluster job {jobs[2]['id']} pending ({jobs[2]['reason']})" in shown
    cluster.wait(launch)
    trials = cluster.project.status()
    assert {t["state"] for t in trials.values()} == {"COMPLETE"}
    assert all(cluster.project.epochs(name) == [1, 2, 3] for name in trials)
    assert len(cluster.placed()) == 3
    assert {state.split()[0] for state in cluster.states()} == {"COMPLETED"}


EPOCHS = 8
TOP1 = [0.55, 0.65, 0.64, 0.7, 0.72, 0.71, 0.74, 0.76]


def kill_slurmd(cluster: Cluster) -> None:
    """Kill the node's daemon; SLURM gives the node up, and the job back to the queue."""
    os.kill(cluster.slurm.pid("slurmd"), signal.SIGKILL)
    number = cluster.running()
    deadline = time.monotonic() + 120
    while cluster.mine()[number]["JobState"] == "RUNNING":
        assert time.monotonic() < deadline, "the job of a lost node still counts as running"
        time.sleep(0.5)
    cluster.slurm.start_slurmd()
    while cluster.project.job_pids() or cluster.slurm.stepds():
        assert time.monotonic() < deadline, "the node's daemon left the old job running"
        time.sleep(0.5)
    # Without the pause that SLURM makes before a requeued job, what ends the old start of the
    # job now and then hits the new one.
    time.sleep(15)


def preempt(cluster: Cluster) -> None:
    """Have a job of a more urgent partition take all GPUs for a moment."""
    words = ["--parsable", "-p", "urgent", "--gres=gpu:4", "--wrap", "sleep 1", "-o", "/dev/null"]
    number = cluster.slurm.call("sbatch", *words).strip()
    deadline = time.monotonic() + 120
    while cluster.slurm.jobs()[number]["JobState"] != "COMPLETED":
        assert time.monotonic() < deadline, "nothing was preempted"
        time.sleep(0.5)


#: What is done to a running job, and how the launch that watches it ends.
FAULTS = {
    "told that time is nearly up": (
        lambda c: c.slurm.call("scancel", "--batch", "--signal=USR1", c.running()),
        0,
    ),
    "requeued": (lambda c: c.slurm.call("scontrol", "requeue", c.running()), 0),
    "cancelled": (lambda c: c.slurm.call("scancel", c.running()), 75),
    "its launch killed": (lambda c: os.kill(c.supervisor(), signal.SIGKILL), 0),
    "slurmstepd killed": (lambda c: os.kill(c.slurm.stepds()[0], signal.SIGKILL), 0),
    "slurmd killed": (kill_slurmd, 0),
    "preempted": (preempt, 0),
}
SAMPLE = ("told that time is nearly up", "slurmstepd killed")
CASES = [
    pytest.param(name, marks=[pytest.mark.slow, *([pytest.mark.sample] if name in SAMPLE else [])])
    for name in FAULTS
]


@pytest.mark.parametrize("fault", CASES)
def test_a_trial_ends_once_whatever_happens_to_its_job(
    cluster, until: Callable[..., None], fault: str
) -> None:
    act, code = FAULTS[fault]
    # SLURM takes its time to give a node up.
    cluster.sweep(epochs=EPOCHS, top1=TOP1, sleep=2 if fault == "slurmd killed" else 0.25)
    launch = cluster.launch()
    until(lambda: len(cluster.project.epochs("baseline/0")) >= 2, "two epochs")
    act(cluster)
    cluster.wait(launch, code)
    if code:
        assert "was cancelled; no other takes its place" in cluster.said()
        until(lambda: not cluster.project.job_pids(), "no process is left")
        cluster.wait(cluster.launch())
    until(lambda: not cluster.project.job_pids(), "no process is left")
    trial = cluster.project.status()["baseline/0"]
    assert (trial["state"], trial["epochs"]) == ("COMPLETE", EPOCHS), cluster.said()
    assert trial["attempts"] == 2, cluster.logs()
    assert cluster.project.epochs("baseline/0") == list(range(1, EPOCHS + 1))
    assert "going on after epoch" in cluster.logs()
    sweep = read_sweep(cluster.project.root / "sweeps" / "tiny.yaml", cluster.project.root)
    history = [Measurement(epoch=n, top1=value) for n, value in enumerate(TOP1, 1)]
    expected = judge_all(history, Rules.of(sweep.variants["baseline"]))
    lines = (cluster.project.folder("baseline/0") / "verdicts.jsonl").read_text().splitlines()
    reported = [(r["epoch"], r["verdict"], r["rule"]) for r in map(json.loads, lines)]
    assert reported == [(v.epoch, v.kind.value, v.rule) for v in expected]


@pytest.mark.slow
def test_the_time_limit_itself_lets_the_trial_go_on_in_the_requeued_job(
    cluster, until: Callable[..., None]
) -> None:
    # SLURM's shortest limits; it may send the signal up to a minute early.
    cluster.sweep(epochs=16, sleep=2, slurm="{time: '2', signal_s: 30}")
    launch = cluster.launch()
    cluster.wait(launch)
    until(lambda: not cluster.project.job_pids(), "no process is left")
    trial = cluster.project.status()["baseline/0"]
    assert (trial["state"], trial["epochs"]) == ("COMPLETE", 16), cluster.reported()
    assert trial["attempts"] >= 2 and trial["job"]["restarts"] >= 1, cluster.reported()
    assert cluster.project.epochs("baseline/0") == list(range(1, 17))
    assert "is queued again; it goes on where this one stopped" in cluster.logs()
    assert len(cluster.mine()) == 1


@pytest.mark.slow
@pytest.mark.sample
def test_stop_cancels_what_waits_and_ends_what_runs(cluster, until: Callable[..., None]) -> None:
    cluster.sweep(variants=3, epochs=EPOCHS, sleep=1)
    launch = cluster.launch("--policy", "all")
    until(lambda: len(cluster.placed()) == 2 and len(cluster.mine()) == 3, "two of three run")
    stopped = cluster.project.run("sweep", "stop", "tiny", "--now")
    assert stopped.returncode == 0, stopped.stderr
    assert "Cancelled pending SLURM jobs" in stopped.stderr
    cluster.wait(launch, 75)
    assert not {"PENDING", "RUNNING"} & {state.split()[0] for state in cluster.states()}
    until(lambda: not cluster.project.job_pids(), "no process is left")
    phases = sorted(trial["phase"] for trial in cluster.project.status().values())
    assert phases == ["interrupted", "interrupted", "waiting"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_runs_on_the_cluster_with_the_verdicts_of_one_machine(cluster) -> None:
    project, root = cluster.project, Path(__file__).parents[2]
    shutil.copytree(root / "configs", project.root / "configs")
    demo = (root / "sweeps" / "demo.yaml").read_text()
    demo = demo.replace("job:\n", f"job:\n  python: {cluster.driver}/python\n")
    (project.root / "sweeps" / "demo.yaml").write_text(demo)
    assert project.run("data", "demo", "data/demo").returncode == 0
    words = ["sweep", "launch", "demo", "--on", "slurm", "--policy", "all", "--wandb", "disabled"]
    done = project.run(*words, timeout=1500)
    assert done.returncode == 0, f"{done.stderr}\n{cluster.slurm.logs()}"
    record = json.loads(project.run("sweep", "status", "demo", "--json").stdout)
    ended = {s["variant"]: [t["state"] for t in s["trials"]] for s in record["studies"]}
    # As docs/demo.md has it: what is far too high a rate forgets everything in its first epoch.
    assert ended == {
        "start": ["COMPLETE"],
        "baseline": ["PRUNED"],
        "pose-1.5": ["PRUNED"],
        "lr-0.02": ["COMPLETE"],
    }
    assert record["best"]["variant"] == "lr-0.02"
    assert set(cluster.placed().values()) == {"GPU-0,GPU-1", "GPU-2,GPU-3"}
    assert {state.split()[0] for state in cluster.states()} == {"COMPLETED"}
