"""A small project whose jobs are real: two gloo ranks, about 0.1 s an epoch."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from pipeline.cli.main import cli
from rehearsed_ahead import rehearse_ahead

ROOT = Path(__file__).resolve().parents[2]

SWEEP = """\
name: tiny
config: jobs/tiny.py
objective:
  metric: acc/RGBPose_1:1_top1
  branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}
  goal: 0.9
  best_known: 0.8
job: {gpus: 2, code_root: jobs, stop_grace_s: 20, retry: {lost_worker: 2}}
patience: {epochs: 3, min_delta: 0.001}
gates:
  - {epoch: 1, floor: 0.5, target: 0.6}
variants:
"""


#: Commands of a sweep that ask the job side about its configs.
ASKING = {"launch", "search", "register", "plan", "continue", "rerun"}
#: Those of them that ask the probe, which takes seconds.
REHEARSING = {(command, "tiny") for command in ("launch", "search", "register", "plan")}


class Project:
    """A project folder, and the command run in it as a user would.

    Args:
        answers: what the job side answered in the same folder for an earlier test. It is found
            again by what it was asked and counts while all it was made from is the same, as
            between two launches of a user; most of a short launch is that question.
    """

    #: Of each job. One is enough, and half the time, where the ranks are not what is tested.
    ranks = 2
    #: Whether a command finds the sweep's configs rehearsed: by the same tool and kept in the same
    #: way, but in a fork of a process that has imported torch (`rehearsed_ahead`).
    ahead = True

    def __init__(self, root: Path, answers: Path | None = None) -> None:
        self.root = self._home = root
        self._answers = answers
        self._rehearsed: tuple[str, dict[str, str]] | None = None
        (root / "sweeps").mkdir()
        shutil.copytree(ROOT / "tests" / "jobs", root / "jobs")
        shutil.copy(ROOT / "wandb.yaml", root)

    def sweep(self, variants: str, after: str = "[]") -> None:
        head = SWEEP.replace("gpus: 2", f"gpus: {self.ranks}")
        text = f"{head}{variants}ladder: {{start: baseline, after: {after}}}\n"
        (self.root / "sweeps" / "tiny.yaml").write_text(text)

    def run(self, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            cwd=self.root,
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words),
            cwd=self.root,
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_usual_signals,
        )

    def launch(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.launch_words(*words))

    def launch_words(self, *words: str) -> list[str]:
        return ["sweep", "launch", "tiny", "--device", "cpu", "--wandb", "disabled", *words]

    def argv(self, *words: str) -> list[str]:
        if words[:1] == ("doctor",) or set(words[1:2]) & ASKING:
            usable = self._recall()
            if usable and self.ahead and words[1:3] in REHEARSING:
                self._rehearse()
        return [sys.executable, "-m", "pipeline.cli.main", *words]

    def env(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def status(self) -> dict[str, Any]:
        """Return every trial by name, as the command tells it; no process is started for it."""
        with contextlib.chdir(self.root):
            reported = CliRunner().invoke(cli, ["sweep", "status", "tiny", "--json"])
        assert reported.exit_code == 0, reported.output
        record = json.loads(reported.stdout)
        return {
            f"{study['variant']}/{trial['number']}": trial
            for study in record["studies"]
            for trial in study["trials"]
        }

    def folder(self, trial: str) -> Path:
        return self.root / "runs" / "tiny" / trial

    def epochs(self, trial: str) -> list[int]:
        file = self.folder(trial) / "measurements.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line)["epoch"] for line in lines]

    def _rehearse(self) -> None:
        """Have the configs of the sweep as it is written now rehearsed, once an environment."""
        file = self.root / "sweeps" / "tiny.yaml"
        variables = {k: v for k, v in self.env().items() if k != "PYTEST_CURRENT_TEST"}
        asked = (file.read_text() if file.is_file() else "", variables)
        if asked != self._rehearsed:
            self._rehearsed = asked
            rehearse_ahead(self.root, "tiny", variables)

    def _recall(self) -> bool:
        """Put the answers for an earlier test in place; return whether there can be any."""
        runs = self._home / "runs"
        usable = runs.is_dir() or not os.path.lexists(runs)
        if usable and self._answers is not None and self._answers.is_dir():
            runs.mkdir(mode=0o700, exist_ok=True)
            _hand_over(self._answers, runs / ".cache")
        return usable

    def remove(self) -> None:
        """Remove the folder; its answers are left for the next project there."""
        cache = self._home / "runs" / ".cache"
        if self._answers is not None and cache.is_dir():
            _hand_over(cache, self._answers)
        shutil.rmtree(self._home, ignore_errors=True)

    def job_pids(self) -> list[int]:
        """Return the processes of any trial of this project that are alive."""
        return [pid for pid in _pids() if self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return "pipeline.train" in command and str(self.root) in command and state != "Z"


def _hand_over(answers: Path, target: Path) -> None:
    # They only save time: where the runs folder is a disk of its own, they stay where they are.
    same_disk = answers.stat().st_dev == target.parent.stat().st_dev
    if same_disk and not target.exists():
        answers.rename(target)


def _usual_signals() -> None:
    """Undo what a shell does to background jobs: the tests themselves may be one."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def watched(made: Project) -> Iterator[Project]:
    """Yield a project; fail if the test left processes of its trials running."""
    yield made
    left = made.job_pids()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"left running: {left}"
