"""A launch left alone at night: detached, notifying, within a budget."""

import contextlib
import dataclasses
import http.server
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cli.sweep_refine import notify_end
from pipeline.errors import InputError, NotReady
from pipeline.launch.budget import Budget
from pipeline.launch.notify import (
    CommandReporter,
    NotifyReporter,
    hidden_target,
    make_notifier,
    parse_command,
)
from pipeline.launch.reporters import LineReporter, Reporter
from pipeline.plan.sweep import Notify
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.shared.measurement import Measurement

pytest.importorskip("apprise", reason="apprise is not installed")
#: Plugins of apprise use modules that Python will lose.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SLOW = (
    "  baseline: {set: {train_cfg.max_epochs: 40, model.sleep: 0.25, "
    "val_evaluator.top1: [0.55, 0.7, 0.8, 0.85]}, patience: null}\n"
)
RECORD = """\
import os, sys
with open(sys.argv[1], "a") as stream:
    stream.write(os.environ["PCAN_EVENT"] + "\\n" + sys.stdin.read())
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A command that writes down what it gets."""
    (tmp_path / "record.py").write_text(RECORD)
    return [sys.executable, str(tmp_path / "record.py"), str(tmp_path / "told")]


def test_a_detached_launch_survives_the_logout_and_can_be_watched_and_stopped(
    project, command: list[str], until: Callable[..., None]
) -> None:
    project.ranks = 1
    project.sweep(SLOW)
    words = project.launch_words("--detach", "--notify", " ".join(command))
    done = project.run(*words)
    assert done.returncode == 0, done.stderr
    pid = int(done.stderr.split("pid ")[1].split(",")[0])
    until(lambda: project.epochs("baseline/0")[-1:] >= [1], "epoch 1")
    os.kill(pid, signal.SIGHUP)
    until(lambda: len(project.epochs("baseline/0")) >= 2, "an epoch after SIGHUP")

    once = project.run("sweep", "watch", "tiny", "--once")
    assert "baseline/0" in once.stdout and "/40" in once.stdout
    watch = project.start("sweep", "watch", "tiny")
    line = watch.stdout.readline()
    assert line.startswith("baseline/0 epoch ") and "top-1 " in line and " left" in line
    os.kill(watch.pid, signal.SIGINT)
    assert "No longer watching; tiny keeps running" in watch.communicate(timeout=240)[0]
    screen = Screen(project, "sweep", "watch", "tiny")
    until(lambda: "next gate" in screen.text, "the table is drawn")
    until(lambda: len(re.findall(r"baseline/0 +\d+/40 +", screen.text)) >= 2, "it is drawn again")

    assert project.run("sweep", "stop", "tiny").returncode == 0
    until(lambda: not alive(pid), "the launch has ended")
    assert project.status()["baseline/0"]["phase"] == "interrupted"
    assert screen.process.wait(240) == 0, screen.text
    assert "baseline/0 interrupted" in screen.text
    log = (project.root / "runs" / "tiny" / "launch.log").read_text()
    assert "baseline/0 epoch 1/40: top-1 55.00 %" in log and "Traceback" not in log
    event, sentence = Path(command[2]).read_text().splitlines()[:2]
    assert json.loads(event)["rule"] == "epoch 1 target"
    assert sentence.startswith("baseline/0 epoch 1/40: top-1 55.00 %")


class Screen:
    """A command on a terminal of its own, and what it has drawn there."""

    def __init__(self, project, *words: str) -> None:
        self.text = ""
        self._ours, theirs = pty.openpty()
        env = {**project.env(), "TERM": "xterm"}
        words = project.argv(*words)
        self.process = subprocess.Popen(
            words, cwd=project.root, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while drawn := os.read(self._ours, 65_536):
                self.text += drawn.decode(errors="replace")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_keeps_a_detached_launch_from_starting_is_said(project) -> None:
    project.ranks = 1
    project.sweep(SLOW.replace("train_cfg.max_epochs", "train_cfg.max_epoch"))
    done = project.launch("--detach")
    assert done.returncode == 2 and 'has no "train_cfg.max_epoch"' in done.stderr


@pytest.mark.slow
@pytest.mark.sample
def test_a_used_up_budget_stops_after_the_epoch_and_stays_resumable(project) -> None:
    project.ranks = 1
    project.sweep(SLOW)
    done = project.launch("--gpu-hours", "0.00001")
    assert done.returncode == 75, done.stderr
    assert "(--gpu-hours)" in done.stderr
    trial = project.status()["baseline/0"]
    assert (trial["phase"], trial["cause"], trial["epochs"]) == ("interrupted", "budget", 1)


@dataclasses.dataclass
class Ran:
    """As much of a trial as a budget looks at."""

    job_seconds: float
    seconds: float = 0.0


@pytest.mark.parametrize(
    ("budget", "running", "said"),
    [
        (Budget(), 1e9, None),
        (Budget(gpu_hours=4), 7100, None),
        (Budget(gpu_hours=4), 7200, "the launch's 4 GPU hours (--gpu-hours) are used up"),
        (Budget(max_hours=1), 1e9, None),
        (Budget(max_hours=0), 0, "the launch's 0 h (--max-hours) are over"),
    ],
)
def test_a_budget_counts_hours_times_gpus(budget: Budget, running: float, said) -> None:
    assert budget.exceeded([Ran(running)], 2) == said


def test_a_budget_counts_what_has_ended() -> None:
    budget = Budget(gpu_hours=4)
    budget.ended(Ran(0.0, seconds=3600), 2)
    assert budget.exceeded([Ran(3500)], 2) is None
    assert budget.exceeded([Ran(3600)], 2) is not None


def test_a_command_gets_each_event(command: list[str]) -> None:
    reporter = CommandReporter(command, "demo", Reporter())
    reporter.send("verdict", "baseline/0 pruned", {"trial": "baseline/0"})
    reporter.send("end", "all done", {"exit_code": 0})
    reporter.close()
    first, sentence, second, last = Path(command[2]).read_text().splitlines()
    assert (sentence, last) == ("baseline/0 pruned", "all done")
    assert json.loads(first) == {
        "schema": 1,
        "event": "verdict",
        "sweep": "demo",
        "sentence": "baseline/0 pruned",
        "trial": "baseline/0",
    }
    assert json.loads(second)["event"] == "end"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["sleep", "600"], "took more than 0.2 s and was ended"),
        (["sh", "-c", "echo no network >&2; exit 3"], "ended with exit code 3: no network"),
        (["nowhere/at-all"], "could not be run"),
    ],
)
def test_a_bad_command_is_said_once_and_harms_nothing(argv, problem) -> None:
    said: list[str] = []
    reporter = CommandReporter(argv, "demo", LineReporter(said.append), timeout_s=0.2)
    reporter.send("verdict", "one", {})
    reporter.send("verdict", "two", {})
    reporter.close()
    assert len(said) == 1 and problem in said[0]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what a service would take; answers with the server's `status`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def service() -> Iterator[http.server.HTTPServer]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def notifier(server: http.server.HTTPServer, said: list[str], **wants: object) -> NotifyReporter:
    url = f"json://key:secret@127.0.0.1:{server.server_port}/"
    return make_notifier(url, "demo", LineReporter(said.append), Notify(**wants))


def test_a_service_gets_the_events_that_the_sweep_file_wants(service) -> None:
    said: list[str] = []
    reporter = notifier(service, said, on=["failure", "end"])
    reporter.send("verdict", "not wanted", {})
    reporter.send("failure", "baseline/0 failed", {})
    reporter.send("end", "all done", {})
    reporter.close()
    assert [one["message"] for one in service.received] == ["baseline/0 failed", "all done"]
    assert service.received[0]["title"] == "pcan demo: failure" and said == []


def test_a_service_that_refuses_or_is_dead_is_said_once_without_its_key(service) -> None:
    said: list[str] = []
    service.status = 500
    reporter = notifier(service, said)
    for _ in range(2):
        reporter.send("end", "all done", {})
    reporter.close()
    assert len(said) == 1 and "the service json:// did not take a message" in said[0]
    assert "secret" not in said[0]


def test_a_new_best_is_reported_if_it_is_better_by_as_much_as_asked(service) -> None:
    reporter = notifier(service, [], on=["better"], better_by=0.005).known_best(0.89)
    trial = SimpleNamespace(name="a/0", epochs=9)
    go = Verdict(epoch=1, top1=0.9, kind=VerdictKind.GO, reason="")
    for epoch, top1 in enumerate((0.894, 0.896, 0.9, 0.902), 1):
        reporter.on_trial_result(trial, Measurement(epoch=epoch, top1=top1), go)
    reporter.close()
    (first, second) = [one["message"] for one in service.received]
    assert first == "a/0 epoch 2: top-1 89.60 % is the best so far, 0.60 points above 89.00 %"
    assert second.startswith("a/0 epoch 4: top-1 90.20 %")


def test_an_unknown_service_is_refused_and_no_key_is_kept() -> None:
    with pytest.raises(InputError, match=r"nosuch://\.\.\. is not a known service"):
        make_notifier("nosuch://token", "demo", Reporter(), Notify())
    assert hidden_target("tgram://123:abc/7") == "tgram://***"
    assert hidden_target("mail -s pcan me@here") == "mail -s pcan me@here"


def test_the_end_of_a_command_that_is_no_launch_is_reported(service) -> None:
    url = f"json://127.0.0.1:{service.server_port}/"
    opened = SimpleNamespace(sweep=SimpleNamespace(name="demo", notify=Notify()))
    with notify_end(opened, [url]) as end:
        end("refine of a/0: ratio is chosen.")
    with pytest.raises(NotReady), notify_end(opened, [url]):
        raise NotReady("no GPU")
    messages = [one["message"] for one in service.received]
    assert messages == ["refine of a/0: ratio is chosen.", "no GPU"]


@pytest.mark.parametrize("text", ["", "mail 'x", "no-such-program-here --to me"])
def test_a_command_that_cannot_work_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(InputError, match="--notify"):
        parse_command(text)
