"""A project whose jobs run on the tests' SLURM, on stand-in GPUs."""

import os
import subprocess
import time
from pathlib import Path

SLOW = "model.sleep: {}, "
THREE = (
    "  baseline: {{set: {{train_cfg.max_epochs: {epochs}, {slow}val_evaluator.top1: {top1}}}}}\n"
    "  b: {{like: baseline}}\n"
    "  c: {{like: baseline}}\n"
)


class Cluster:
    """The project, and what its jobs do.

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
        self.write("".join(text.splitlines(keepends=True)[:variants]), f"slurm: {slurm}\n")

    def write(self, variants: str, more: str) -> None:
        """Write the sweep file; its jobs note which GPUs they were given."""
        self.project.sweep(variants)
        file = self.project.root / "sweeps" / "tiny.yaml"
        text = file.read_text().replace("gpus: 2,", f"gpus: 2, python: {self.driver}/python,")
        file.write_text(text + more)

    def launch(self, *words: str, verb: str = "launch") -> subprocess.Popen[str]:
        """Start a launch, or a search, whose lines go to launch.txt."""
        words = ("sweep", verb, "tiny", "--on", "slurm", "--wandb", "disabled", *words)
        with open(self.project.root / "launch.txt", "a") as out:
            return subprocess.Popen(
                self.project.argv(*words),
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
            assert time.monotonic() < deadline, self.reported()
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

    def reported(self) -> str:
        return "\n".join([self.said(), self.logs(), *self.states(), self.slurm.logs()])

    def logs(self) -> str:
        files = sorted((self.project.root / "runs" / "tiny" / "slurm").glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()}" for file in files)
