"""`compare --serve` over hours: what many polls leave behind, and a server that comes back."""

import contextlib
import gc
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import NEEDED, drawn, js, waiting
from pipeline.cli.common.options import Opened
from pipeline.cli.sweep_compare import collector
from pipeline.errors import StorageError
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.report.compare import serve
from pipeline.shared.files import append_line
from pipeline.shared.measurement import Measurement
from pipeline.study.db.storage import open_storage
from pipeline.study.register import recipe_of, register
from recorded_sweep import record_sweep

ROOT = Path(__file__).parents[2]
Collect = Callable[[], dict[str, Any]]
SWEEP = """\
name: lab
config: c.py
objective: {metric: acc/top1, goal: 0.9}
variants: {baseline: {set: {lr: 1e-3}}, lr_high: {set: {lr: 1e-2}}, lr_low: {set: {lr: 1e-4}}}
ladder: {start: baseline}
"""


class Served:
    """A sweep with its storage, served; it goes on training as long as someone asks."""

    def __init__(self, root: Path) -> None:
        (root / "sweeps").mkdir()
        (root / "sweeps" / "lab.yaml").write_text(SWEEP)
        record_sweep(root / "runs" / "lab")
        sweep = read_sweep(root / "sweeps" / "lab.yaml", root)
        storage = open_storage(None, root / "runs")
        register(sweep, storage, {name: recipe_of(v, "h") for name, v in sweep.variants.items()})
        storage.close()
        self.root = root
        self.collect: Collect = collector(Opened(Project(root), sweep), None, resolve=False)
        self.file = root / "runs" / "lab" / "lr_low" / "0" / "measurements.jsonl"
        self.epoch, self.port = 2, 0

    def train(self) -> None:
        self.epoch += 1
        append_line(self.file, Measurement(epoch=self.epoch, top1=0.6, lr=0.001).to_line())

    def begin(self) -> None:
        self.server = serve.make_server(self.collect, port=self.port)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(serve, "FRESH_S", 0.0)
    made = Served(tmp_path)
    made.begin()
    yield made
    made.end()


def held() -> tuple[int, int]:
    """Return open files and kilobytes of this process's objects."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), tracemalloc.get_traced_memory()[0] // 1024


def poll(served: Served, count: int) -> None:
    """Ask as pages do that are opened and left: a new connection now and then."""
    for first in range(0, count, 20):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
        served.train()
        with contextlib.closing(connection):
            for _ in range(min(20, count - first)):
                connection.request("GET", "/data.json")
                assert connection.getresponse().read()


def assert_nothing_grows(served: Served, first: int, then: int) -> None:
    tracemalloc.start()
    try:
        poll(served, first)
        files, kilobytes = held()
        gc.disable()  # what only a collection would close is open all the time
        poll(served, then)
        open_now = len(os.listdir("/proc/self/fd"))
        gc.enable()
        assert open_now <= files + 4 and held()[1] <= kilobytes + 400
    finally:
        gc.enable()
        tracemalloc.stop()


def test_polls_leave_no_open_file_and_no_memory(served: Served) -> None:
    assert_nothing_grows(served, 10, 40)


@pytest.mark.slow
def test_a_thousand_polls_leave_no_open_file_and_no_memory(served: Served) -> None:
    assert_nothing_grows(served, 100, 1000)


def test_a_locked_storage_is_an_answer_and_not_the_end(served: Served) -> None:
    whole, locked = served.collect, [True]

    def collect() -> dict[str, Any]:
        if locked[0]:
            raise StorageError("The study storage is locked.")
        return whole()

    served.end()
    served.collect = collect
    served.begin()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", "/data.json")
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (503, b"The study storage is locked.\n")
        locked[0] = False
        connection.request("GET", "/data.json")
        reply = connection.getresponse()
        assert reply.status == 200 and reply.read()


def test_a_client_that_goes_away_leaves_no_traceback(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    poll(served, 2)  # the first was left by a reset, before its page was written
    assert "Traceback" not in capfd.readouterr().err


@contextlib.contextmanager
def command(root: Path, port: int = 0) -> Iterator[str]:
    """Serve by the command itself; yield its address. It ends by a kill."""
    words = ["sweep", "compare", "lab", "--serve", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.main", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


class TestInABrowser:
    pytestmark = NEEDED

    def test_the_page_says_that_it_is_behind_and_catches_up(
        self, served: Served, browser: Any
    ) -> None:
        (served.root / "wandb.yaml").touch()
        with command(served.root) as address:
            browser.get(address)
            drawn(browser)
        waiting(browser).until(lambda b: not js(b, "return byId('stale').hidden"))
        said = js(browser, "return byId('stale').innerText")
        assert "the server does not answer" in said and "No news since" in said
        served.train()
        seen = "return state.data.trials.find((t) => t.id === 'lr_low/0').epochs.length"
        with command(served.root, int(address.strip("/").rpartition(":")[2])):
            waiting(browser).until(lambda b: js(b, seen) == 3)
            waiting(browser).until(lambda b: js(b, "return byId('stale').hidden"))

    @pytest.mark.slow
    def test_a_page_that_was_drawn_a_thousand_times_holds_no_more(
        self, served: Served, browser: Any
    ) -> None:
        browser.get(serve.address(served.server))
        drawn(browser)
        before = after_draws(browser, 50)
        after = after_draws(browser, 1000)
        assert after["Nodes"] <= before["Nodes"] + 200
        assert after["JSEventListeners"] <= before["JSEventListeners"] + 50
        assert after["JSHeapUsedSize"] <= before["JSHeapUsedSize"] + 3e6


def after_draws(browser: Any, count: int) -> dict[str, float]:
    """Draw changed data as a poll does, `count` times; return what the page then holds."""
    browser.set_script_timeout(500)
    browser.execute_async_script(
        """
        const done = arguments[arguments.length - 1], count = arguments[0];
        (async () => {
          for (let at = 0; at < count; at++) {
            const data = JSON.parse(JSON.stringify(state.data));
            const trial = data.trials.find((t) => t.id === "lr_low/0");
            trial.top1[trial.top1.length - 1] = 0.5 + (at % 10) / 100;
            state.data = data;
            renderColumns();
            render();
            if (at % 20 === 0) await new Promise((go) => setTimeout(go, 0));
          }
          done();
        })();
        """,
        count,
    )
    browser.execute_cdp_cmd("Performance.enable", {})
    browser.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    found = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return {one["name"]: one["value"] for one in found}
