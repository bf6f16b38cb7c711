"""A sweep on a real SLURM: places, requeues, cancellations, and what must be refused at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import stand_in  # noqa: E402

from pipeline.plan.judge import Rules, judge_all  # noqa: E402
from pipeline.plan.measurement import Measurement  # noqa: E402
from pipeline.plan.read import read_sweep  # noqa: E402

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SLOW = "model.sleep: {}, "
THREE = (
    "  baseline: {{set: {{train_cfg.max_epochs: {epochs}, {slow}val_evaluator.top1: {top1}}}}}\n"
    "  b: {{like: baseline}}\n"
    "  c: {{like: baseline}}\n"
)


class Cluster:
    """A project whose jobs run on the tests' SLURM, on stand-in GPUs.

    Args:
        project: the project of `conftest.py`.
        slurm: the running SLURM.
    """

    def __init__(self, project, slurm, driver: Path) -> None:
        self.project, self.slurm, self.driver = project, slurm, driver

    def sweep(
        self,
        variants: int = 1,
        epochs: int = 4,
        sleep: float = 0.25,
        top1: list[float] | None = None,
        slurm: str = "{}",
    ) -> None:
        values = top1 or [0.6 + n / 100 for n in range(epochs)]
        text = THREE.format(epochs=epochs, slow=SLOW.format(sleep), top1=values)
        self.project.sweep("".join(text.splitlines(keepends=True)[:variants]))
        file = self.project.root / "sweeps" / "tiny.yaml"
        text = file.read_text().replace("gpus: 2,", f"gpus: 2, python: {self.driver}/python,")
        file.write_text(f"{text}slurm: {slurm}\n")

    @property
    def words(self) -> list[str]:
        return ["sweep", "launch", "tiny", "--on", "slurm", "--wandb", "disabled"]

    def launch(self, *words: str) -> subprocess.Popen[str]:
        """Start a launch whose lines go to launch.txt."""
        out = open(self.project.root / "launch.txt", "a")
        with out:
            return subprocess.Popen(
                self.project.argv(*self.words, *words),
                cwd=self.project.root,
                env=self.project.env(),
                stdout=out,
                stderr=out,
                text=True,
            )

    def said(self) -> str:
        return (self.project.root / "launch.txt").read_text()

    def mine(self) -> dict[str, dict[str, str]]:
        """Return this project's jobs."""
        found = self.slurm.jobs()
        return {k: j for k, j in found.items() if j.get("WorkDir") == str(self.project.root)}

    def states(self) -> list[str]:
        return [f"{job['JobState']} {job['Reason']}" for _, job in sorted(self.mine().items())]

    def placed(self) -> dict[str, str]:
        """Return the GPUs that each trial's job was given."""
        file = self.driver / "jobs"
        lines = file.read_text().splitlines() if file.exists() else []
        return dict(line.split() for line in lines)

    def wait(self, launch: subprocess.Popen[str], code: int = 0) -> None:
        """Wait for a launch to end; the delay of a requeue is cut short."""
        deadline = time.monotonic() + 240
        while launch.poll() is None:
            assert time.monotonic() < deadline, self.told()
            self.start_requeued()
            time.sleep(0.3)
        assert launch.returncode == code, f"{self.said()}\n{self.logs()}"

    def start_requeued(self) -> None:
        """SLURM keeps a requeued job back for two minutes; its old start has to be over."""
        for number, job in self.mine().items():
            waits = job["JobState"] == "PENDING" and job["Reason"] == "BeginTime"
            if waits and not self.slurm.stepds(number):
                self.slurm.call("scontrol", "update", f"JobId={number}", "StartTime=now")

    def running(self) -> str:
        """Return the id of the one job that runs."""
        (found,) = [n for n, job in self.mine().items() if job["JobState"] == "RUNNING"]
        return found

    def supervisor(self) -> int:
        """Return the pid of the one running job's launch, the child of its slurmstepd."""
        stepds = set(self.slurm.stepds())
        for pid in [int(e.name) for e in os.scandir("/proc") if e.name.isdigit()]:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) in stepds and b"--in-job" in words:
                return pid
        raise AssertionError("no launch runs in a job")

    def told(self) -> str:
        return "\n".join([self.said(), self.logs(), *self.states(), self.slurm.logs()])

    def logs(self) -> str:
        files = sorted((self.project.root / "runs" / "tiny" / "slurm").glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()}" for file in files)


@pytest.fixture
def cluster(project, slurm, tmp_path_factory: pytest.TempPathFactory, monkeypatch):
    driver = tmp_path_factory.mktemp("driver")
    smi, _ = stand_in.write(driver, sys.executable)
    monkeypatch.setenv("PCAN_NVIDIA_SMI", str(smi))
    monkeypatch.setenv("PCAN_LOCKS", str(driver / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in slurm.env().items():
        monkeypatch.setenv(name, value)
    made = Cluster(project, slurm, driver)
    yield made
    left = [n for n, j in made.mine().items() if j["JobState"] in ("PENDING", "RUNNING")]
    if left:
        slurm.call("scancel", "--quiet", *left)
        deadline = time.monotonic() + 20
        while project.job_pids() and time.monotonic() < deadline:
            time.sleep(0.1)


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
    assert f"SLURM job {jobs[2]['id']} pending ({jobs[2]['reason']})" in shown
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
        until(lambda: not cluster.project.job_pids(), "no process is left", limit_s=10)
        cluster.wait(cluster.launch())
    until(lambda: not cluster.project.job_pids(), "no process is left", limit_s=10)
    trial = cluster.project.status()["baseline/0"]
    assert (trial["state"], trial["epochs"]) == ("COMPLETE", EPOCHS), cluster.said()
    assert trial["attempts"] == 2, cluster.logs()
    assert cluster.project.epochs("baseline/0") == list(range(1, EPOCHS + 1))
    assert "going on after epoch" in cluster.logs()
    sweep = read_sweep(cluster.project.root / "sweeps" / "tiny.yaml", cluster.project.root)
    history = [Measurement(epoch=n, top1=value) for n, value in enumerate(TOP1, 1)]
    expected = judge_all(history, Rules.of(sweep.variants["baseline"]))
    lines = (cluster.project.folder("baseline/0") / "verdicts.jsonl").read_text().splitlines()
    told = [(r["epoch"], r["verdict"], r["rule"]) for r in map(json.loads, lines)]
    assert told == [(v.epoch, v.kind.value, v.rule) for v in expected]


@pytest.mark.slow
def test_the_time_limit_itself_lets_the_trial_go_on_in_the_requeued_job(
    cluster, until: Callable[..., None]
) -> None:
    # SLURM's shortest limits; it may send the signal up to a minute early.
    cluster.sweep(epochs=16, sleep=2, slurm="{time: '2', signal_s: 30}")
    launch = cluster.launch()
    cluster.wait(launch)
    until(lambda: not cluster.project.job_pids(), "no process is left", limit_s=10)
    trial = cluster.project.status()["baseline/0"]
    assert (trial["state"], trial["epochs"]) == ("COMPLETE", 16), cluster.logs()
    assert trial["attempts"] >= 2 and trial["job"]["restarts"] >= 1
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
    assert "Cancelled what waited with SLURM" in stopped.stderr
    cluster.wait(launch, 75)
    assert not {"PENDING", "RUNNING"} & {state.split()[0] for state in cluster.states()}
    until(lambda: not cluster.project.job_pids(), "no process is left", limit_s=10)
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
