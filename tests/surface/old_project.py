"""A project folder as commit 153d879 left it, in the middle of a search.

`old_project.tar.xz` is cut down from the whole one in shared/data (old_project_153d879.tar.xz):
all files but the drawn data, W&B's files and caches. To be small, all checkpoints hold the
weights, buffers and random states of one of them, rounded to powers of two, and no momentum; keys,
shapes, types and all that is beside the tensors are as they were written. What its trials
measured is therefore not what these weights would measure.
"""

import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from called import called

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = Path(__file__).parent / "old_project.tar.xz"
WHOLE = "old_project_153d879.tar.xz"
#: A paused trial of its search that goes on after epoch 1, and how many trials that search has.
PAUSED, TRIALS = "lr-0.02/4", "3"


class OldProject:
    """The folder, and the command run in it as a user would."""

    def __init__(self, folder: Path, archive: Path = ARCHIVE) -> None:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        self.root = folder / "old_project"
        self.home = folder / "home"
        self.home.mkdir()

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            cwd=self.root,
            env={**self.env(), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    def done(self, *words: str) -> str:
        """Run a command that has to succeed, in this process; return what it printed."""
        ended = called(*words, folder=self.root, environment=self.env())
        assert ended.returncode == 0, f"pcan {' '.join(words)}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.done(*words, "--json"))

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pipeline.cli.main", *words]

    def env(self) -> dict[str, str]:
        """The tests' environment without what the machine's user has set for pcan and W&B."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PCAN_", "WANDB_"))}
        path = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        own = {"PYTHONPATH": path, "HOME": str(self.home), "NETRC": str(self.home / "netrc")}
        return {**kept, **own, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def draw_data(self) -> None:
        """Draw its data set, of fewer clips than it had; trials do not mind."""
        self.done("data", "demo", "data/demo", "--clips", "2")

    def trials(self) -> dict[str, Any]:
        """Return every trial by name, as `status --json` tells it."""
        return {
            f"{study['variant']}/{trial['number']}": trial
            for study in self.json("sweep", "status", "demo")["studies"]
            for trial in study["trials"]
        }

    def folder(self, trial: str) -> Path:
        return self.root / "runs" / "demo" / trial

    def measured(self, trial: str) -> list[dict[str, Any]]:
        lines = (self.folder(trial) / "measurements.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


class Search:
    """`pcan sweep search` going on with the old search, until its paused trial has an epoch more.

    Ctrl-C ends it then. Meanwhile the command lines of the trial's processes are noted.
    """

    WORDS = ("sweep", "search", "demo", "--device", "cpu", "--trials", TRIALS)

    def __init__(self, project: OldProject, *more: str, limit_s: float = 300) -> None:
        self.text = ""
        self.processes: dict[str, set[str]] = {}  # command line: names of our variables in it
        popen = subprocess.Popen(
            project.argv(*self.WORDS, *more),
            cwd=project.root,
            env=project.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that put the tests into the background has SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        limit = threading.Timer(limit_s, popen.kill)
        limit.start()
        noting = threading.Thread(target=self._note, args=(popen, project.root), daemon=True)
        noting.start()
        with popen:
            assert popen.stdout is not None
            for line in popen.stdout:
                self.text += line
                if line.startswith(f"{PAUSED} epoch 2/8: "):
                    popen.send_signal(signal.SIGINT)
        limit.cancel()
        noting.join()
        self.exit_code = popen.returncode

    def _note(self, popen: subprocess.Popen[str], root: Path) -> None:
        while popen.poll() is None:
            for words, names in _jobs(root):
                self.processes.setdefault(json.dumps(words), set()).update(names)
            time.sleep(0.1)


class GoneOn(OldProject):
    """The project after most of what can happen to one has happened; tests only look at it."""

    def __init__(self, folder: Path, tracking: ModuleType) -> None:
        super().__init__(folder)
        self.draw_data()
        events = self.root / "events.jsonl"
        notify = f"sh -c 'printenv PCAN_EVENT >> {events}'"
        self.before = self.measured("lr-0.02/4")
        self.search = Search(self, "--notify", notify)
        self.events = [json.loads(line) for line in events.read_text().splitlines()]
        self.losers = self.json("sweep", "clean", "demo")
        self.done("sweep", "continue", "lr-0.02/3", "--sweep", "demo")
        (self.root / "earlier.csv").write_text("epoch,top1,lr\n1,0.5,0.01\n2,0.6,0.005\n")
        self.done("sweep", "import", "earlier.csv", "--sweep", "demo", "--metric", "top1")
        self.synced = self._sync(tracking)

    def _sync(self, tracking: ModuleType) -> Any:
        """Send the trials to the small W&B server of the tests in tests/track."""
        state = tracking.Server()
        http = tracking._Quiet(("127.0.0.1", 0), tracking._handler(state))
        state.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            server = {"WANDB_BASE_URL": state.url, "WANDB_API_KEY": tracking.KEY}
            return json.loads(self.run("sweep", "sync", "demo", "--json", **server).stdout)
        finally:
            http.shutdown()
            http.server_close()
            thread.join()


def _jobs(root: Path) -> Iterator[tuple[list[str], set[str]]]:
    """Yield argv and our environment's names of each process of this project's trials."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            if "pipeline.train" not in words or not words[-1].startswith(str(root)):
                continue
            given = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        except (OSError, IndexError):
            continue
        yield words, {one.split("=")[0] for one in given if one.startswith("PCAN_")}
