"""Two hosts on one PostgreSQL: one dies, one is cut off and comes back, the server restarts.

Hosts are distinguished by PCAN_HOST; they share a project folder, or have one each.
"""

import contextlib
import json
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import open_storage
from pipeline.study.owner import ProcessIdentity
from pipeline.study.register import recipe_of, register

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

#: Seconds; the product's own is three minutes.
LEASE = 6
EPOCHS = 8
SLOW = (
    f"  baseline: {{set: {{train_cfg.max_epochs: {EPOCHS}, model.sleep: 0.4, "
    f"val_evaluator.top1: {[0.6 + n / 100 for n in range(EPOCHS)]}}}}}\n"
)
sample = pytest.mark.sample
slow = pytest.mark.slow


class Cable:
    """A way to the server that can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._pairs: list[socket.socket] = []
        self._listener: socket.socket | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.repair()

    def repair(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Drop every connection and take no new one."""
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._pairs:
            end = self._pairs.pop()
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._pairs += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


class Host:
    """A launch's machine: a name, a project folder, a way to the storage."""

    def __init__(self, name: str, project, url: str) -> None:
        self.name, self.project, self.url = name, project, url

    def env(self) -> dict[str, str]:
        own = {"PCAN_HOST": self.name, "PCAN_STORAGE": self.url, "PCAN_LEASE_S": str(LEASE)}
        return {**self.project.env(), **own}

    def start(self) -> subprocess.Popen[str]:
        """Launch; what it says goes to NAME.txt."""
        with open(self.project.root / f"{self.name}.txt", "a") as out:
            return subprocess.Popen(
                self.project.argv(*self.project.launch_words()),
                cwd=self.project.root,
                env=self.env(),
                stdout=out,
                stderr=out,
                text=True,
            )

    def said(self) -> str:
        return (self.project.root / f"{self.name}.txt").read_text()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.project.argv(*words),
            cwd=self.project.root,
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def trial(self) -> dict[str, object]:
        record = json.loads(self.run("sweep", "status", "tiny", "--json").stdout)
        return record["studies"][0]["trials"][0]

    def jobs(self) -> list[int]:
        """Return the pids of this host's jobs."""
        found = []
        for pid in self.project.job_pids():
            with contextlib.suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found += [pid] if f"PCAN_HOST={self.name}".encode() in environ else []
        return found


@pytest.fixture
def database(postgres) -> str:
    return postgres.fresh(f"d{uuid.uuid4().hex[:12]}")


def ended_once(host: Host, attempts: int) -> None:
    """The trial is complete, every epoch there once."""
    trial = host.trial()
    assert (trial["state"], trial["epochs"], trial["attempts"]) == ("COMPLETE", EPOCHS, attempts)
    assert host.project.epochs("baseline/0") == list(range(1, EPOCHS + 1))


@slow
@sample
def test_a_dead_hosts_trial_is_taken_up_by_the_one_that_waits(
    project, postgres, database: str, until: Callable[..., None]
) -> None:
    project.ranks = 1
    project.sweep(SLOW.replace("sleep: 0.4", "sleep: 1.5"))
    alpha, beta = (Host(name, project, postgres.url(database)) for name in ("alpha", "beta"))
    first = alpha.start()
    until(lambda: len(project.epochs("baseline/0")) >= 1, "an epoch on alpha")
    second = beta.start()
    until(lambda: "waiting to take over" in beta.said(), "beta waits")
    first.kill()
    first.wait()
    assert second.wait(timeout=300) == 0, beta.said()
    assert "resumed as the same trial" in beta.said()
    ended_once(beta, attempts=2)
    assert beta.trial()["host"] == "beta"


@slow
@sample
def test_a_host_that_was_cut_off_ends_its_job_and_writes_no_result(
    project, postgres, database: str, until: Callable[..., None]
) -> None:
    project.ranks = 1
    project.sweep(SLOW.replace("sleep: 0.4", "sleep: 1"))
    cable = Cable(postgres.port)
    alpha = Host("alpha", project, postgres.url(database, port=cable.port))
    beta = Host("beta", project, postgres.url(database))
    first = alpha.start()
    until(lambda: len(project.epochs("baseline/0")) >= 1, "an epoch on alpha")
    cable.cut()
    second = beta.start()
    until(lambda: "baseline/0 starts on" in beta.said(), "beta takes the trial up")
    until(lambda: not alpha.jobs(), "alpha's job has ended")
    assert "was taken over by a launch on beta" in alpha.said()
    cable.repair()
    first.wait(timeout=120)
    assert second.wait(timeout=300) == 0, beta.said()
    cable.cut()
    assert "complete" not in alpha.said().replace("is complete", "")
    ended_once(beta, attempts=2)


@slow
@sample
def test_a_restart_of_the_database_stops_no_training_and_loses_nothing(
    project, postgres, database: str, until: Callable[..., None]
) -> None:
    project.ranks = 1
    project.sweep(SLOW.replace("sleep: 0.4", "sleep: 0.2"))
    alpha = Host("alpha", project, postgres.url(database))
    launch = alpha.start()
    until(lambda: len(project.epochs("baseline/0")) >= 2, "two epochs")
    postgres.stop()
    try:
        before = len(project.epochs("baseline/0"))
        until(lambda: len(project.epochs("baseline/0")) >= before + 2, "training goes on")
    finally:
        postgres.start()
    assert launch.wait(timeout=300) == 0, alpha.said()
    ended_once(alpha, attempts=1)
    sweep = read_sweep(project.root / "sweeps" / "tiny.yaml", project.root)
    storage = open_storage(alpha.url, project.root)
    trial = storage.rdb.get_all_trials(
        storage.rdb.get_study_id_from_name(f"{sweep.name}/baseline")
    )
    storage.close()
    assert sorted(trial[0].intermediate_values) == list(range(1, EPOCHS + 1))


@slow
@sample
def test_a_trial_whose_run_directory_is_elsewhere_is_left_to_its_host(
    project, postgres, database: str
) -> None:
    project.sweep(SLOW)
    beta = Host("beta", project, postgres.url(database))
    assert beta.run("sweep", "register", "tiny").returncode == 0
    begun_elsewhere(project.root, beta.url)
    launched = beta.run(*project.launch_words())
    assert launched.returncode == 5, launched.stderr
    assert "baseline/0 was started on alpha and has 2 epochs" in launched.stderr
    assert "Launch it on alpha" in launched.stderr and "Traceback" not in launched.stderr
    assert "pcan doctor" not in launched.stderr, "nothing is wrong with this machine"
    assert beta.trial()["run_dir_host"] == "alpha"
    page = json.loads(beta.run("sweep", "compare", "tiny", "--json").stdout)
    (trial,) = page["trials"]
    assert (trial["host"], trial["epochs"], trial["top1"]) == ("alpha", [1, 2], [0.6, 0.7])
    seen = json.loads(beta.run("sweep", "watch", "tiny", "--json").stdout)["trials"][0]
    assert (seen["measured"], seen["best_top1"]) == (2, 0.7)
    stopped = beta.run("sweep", "stop", "tiny")
    assert stopped.returncode == 0 and "Nothing of tiny is running" in stopped.stderr
    best = beta.run("sweep", "best", "tiny", "--trial", "baseline/0")
    assert best.returncode == 3 and "it is on alpha" in best.stderr
    assert not project.job_pids() and not list(project.root.glob("runs/tiny/*/*"))


def begun_elsewhere(root: Path, url: str) -> None:
    """Have a host called alpha report two epochs of baseline/0 and give it back."""
    sweep = read_sweep(root / "sweeps" / "tiny.yaml", root)
    storage = open_storage(url, root)
    found = storage.read("SELECT recipe_hash FROM pcan_trials")[0]["recipe_hash"]
    register(sweep, storage, {n: recipe_of(v, found) for n, v in sweep.variants.items()})
    me = ProcessIdentity(host="alpha/1", boot_id="b", pid=1, proc_start=1)
    wanted = [ClaimRequest(variant="baseline", trials=1, recipe_hash=found)]
    lease = claim(sweep, storage, wanted, me=me)
    assert lease is not None
    lease.begin("runs/tiny/baseline/0", "0,1", {"epochs": EPOCHS, "nproc": 2})
    lease.report([Measurement(epoch=n, top1=0.5 + n / 10) for n in (1, 2)], [])
    lease.release("interrupted", cause="interrupted", reason="stopped", seconds=5)
    storage.close()
