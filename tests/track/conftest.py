"""A small W&B server on 127.0.0.1, and run directories as a job would leave them.

The server answers what wandb-core 0.31 asks for a run (GraphQL, file stream, file upload) and
keeps what it received, so that tests assert on rows as a real server would hold them: a chunk
of history is laid at the offset the client gives. It can also refuse, hang, or fail.
"""

import gzip
import importlib.util
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.shared.files import append_line, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.track.run_payload import id_of

KEY = "local-" + "5" * 40
#: What `wandb leet inspect` runs, without a second to import wandb first.
CORE = Path(importlib.util.find_spec("wandb").submodule_search_locations[0]) / "bin/wandb-core"
READER = [str(CORE), "leet", "inspect", "--json"]


@dataclass
class StoredRun:
    """One run as the server holds it."""

    id: str
    history: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    upserts: list[dict[str, Any]] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history]

    def epochs(self) -> list[int]:
        return [row["epoch"] for row in self.rows]

    def last(self, key: str) -> Any:
        """The latest value the client gave for a field of the run."""
        given = [upsert[key] for upsert in self.upserts if upsert.get(key) is not None]
        return given[-1] if given else None


class Server:
    """The state behind the HTTP handler; `mode` decides how requests are answered."""

    def __init__(self) -> None:
        self.mode: str | int = "ok"  # or "hang", or an HTTP status to answer everything with
        self.fail_after_rows: int | None = None  # switch to `then` once so many rows arrived
        self.then: str | int = 500
        self.deleted: set[str] = set()  # ids of runs that a user has deleted
        self.runs: dict[str, StoredRun] = {}
        self.operations: list[str] = []
        self.bodies: list[str] = []  # everything received, decoded, for the search for secrets
        self.views: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.url = ""

    def run(self, run_id: str) -> StoredRun:
        return self.runs.setdefault(run_id, StoredRun(run_id))

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        run = self.run(run_id)
        files = body.get("files") or {}
        chunk = files.get("wandb-history.jsonl")
        if chunk:
            end = chunk["offset"] + len(chunk["content"])
            run.history[chunk["offset"] : end] = chunk["content"]
        for line in (files.get("wandb-summary.json") or {}).get("content", []):
            run.summary = json.loads(line)
        if body.get("complete"):
            run.exits.append(body["exitcode"])
        limit = self.fail_after_rows
        if limit is not None and sum(len(r.history) for r in self.runs.values()) >= limit:
            self.mode, self.fail_after_rows = self.then, None

    def graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        name = query.split("(")[0].split("{")[0].split()[-1]
        self.operations.append(name)
        if "upsertBucket" in query:
            return self.upsert(given)
        if "createRunFiles" in query:
            files = [
                {"name": f, "uploadUrl": f"{self.url}/upload/{f}"} for f in given.get("files", [])
            ]
            made = {"runID": given.get("run"), "uploadHeaders": [], "files": files}
            return {"createRunFiles": made}
        if "upsertView" in query:
            self.views.append(given)
            return {"upsertView": {"view": {"id": "v1", "name": given.get("name")}}}
        if "historyLineCount" in query and "bucket(" in query:
            return {"model": {"id": "p", "name": "p", "bucket": self.bucket(given.get("name"))}}
        if name == "ArtifactType":
            return {"project": None}
        if name == "CreateArtifact":
            self.artifacts.append(given["input"])
            # "Already committed" spares the upload protocol; the files themselves come as media.
            made = {"id": "a1", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": made}}
        if "viewer" in query:
            return {"viewer": self.viewer()}
        return {}

    def viewer(self) -> dict[str, Any]:
        return {
            "id": "u",
            "entity": "lab",
            "username": "tester",
            "email": "t@example.org",
            "flags": "{}",
            "teams": {"edges": []},
        }

    def bucket(self, run_id: str | None) -> dict[str, Any] | None:
        run = self.runs.get(run_id or "")
        if run is None:
            return None
        return {
            "id": "b-" + run.id,
            "name": run.id,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(run.history[-1:]),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps(run.config),
            "wandbConfig": json.dumps({"t": 1}),
            "tags": [],
        }

    def upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        known = given.get("name") in self.runs
        run = self.run(given["name"])
        run.upserts.append(given)
        run.config = json.loads(given.get("config") or "{}") or run.config
        project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "lab"}}
        bucket = {
            **(self.bucket(run.id) or {}),
            "displayName": run.last("displayName"),
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": not known}}


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return None

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            text = body.decode(errors="replace")
            with server.lock:
                # The key belongs into this one header; everything else is searched.
                headers = {k: v for k, v in self.headers.items() if k != "Authorization"}
                server.bodies.append(f"{self.path}\n{headers}\n{text}")
            if server.mode == "hang":
                time.sleep(30)
                return
            if isinstance(server.mode, int):
                self.reply(server.mode, {"errors": [{"message": f"status {server.mode}"}]})
                return
            if "upsertBucket" in text and json.loads(text)["variables"]["name"] in server.deleted:
                words = "was previously created and deleted; try a new run name"
                self.reply(409, {"errors": [{"message": f"run lab/pcan/x {words}"}]})
                return
            with server.lock:
                self.reply(200, self.answer(text))

        do_PUT = do_POST
        do_GET = do_POST

        def answer(self, text: str) -> dict[str, Any]:
            if self.path.endswith("/file_stream"):
                server.stream(self.path.split("/")[-2], json.loads(text))
                return {}
            if self.path.endswith("/graphql"):
                asked = json.loads(text)
                return {"data": server.graphql(asked["query"], asked.get("variables") or {})}
            return {}

        def reply(self, status: int, record: dict[str, Any]) -> None:
            body = json.dumps(record).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed in the middle of a request is part of the tests."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A W&B server that keeps what it receives."""
    state = Server()
    http = _Quiet(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


class Job:
    """Write a run directory as the two sides of a trial do."""

    def __init__(self, sweep_dir: Path, variant: str = "baseline", number: int = 0, **spec: Any):
        self.folder = sweep_dir / variant / str(number)
        self.folder.mkdir(parents=True)
        record = {
            "schema": 1,
            "sweep": sweep_dir.name,
            "variant": variant,
            "number": number,
            "plan": None,
            "attempt": 1,
            "values": {},
            "overrides": {"optim_wrapper.optimizer.lr": 0.003},
            "epochs": 30,
            "metric": "acc/RGBPose_1:1_top1",
            "goal": 0.91,
            "best_known": 0.8919,
            "seed": 0,
            "nproc": 2,
            "device": "cpu",
            "gates": [
                {"epoch": 1, "floor": 0.88, "target": 0.885},
                {"epoch": 10, "floor": "best_known", "target": 0.9},
            ],
            "bands": [
                {"epoch": 1, "lr": 0.003, "top1": [0.885, 0.895]},
                {"epoch": 5, "lr": 0.0027, "top1": [0.89, 0.9]},
            ],
            "created": "2026-01-01T00:00:00+00:00",
            **spec,
        }
        (self.folder / "spec.json").write_text(json.dumps(record))

    def measure(self, *epochs: int) -> None:
        for epoch in epochs:
            m = Measurement(
                epoch=epoch,
                top1=round(0.88 + 0.001 * epoch, 4),
                lr=0.003,
                rgb_top1=0.87,
                pose_top1=0.82,
                loss=2.0,
            )
            append_line(self.folder / "measurements.jsonl", m.to_line())

    def judge(self, epoch: int, verdict: str, reason: str = "as planned") -> None:
        record = {"epoch": epoch, "top1": 0.88, "verdict": verdict, "rule": f"epoch {epoch} floor"}
        line = json.dumps({**record, "threshold": 0.88, "reason": reason, "next": None})
        append_line(self.folder / "verdicts.jsonl", line)

    def end(self, state: str | None, reason: str = "as planned") -> None:
        write_json(self.folder / "outcome.json", {"state": state, "cause": None, "reason": reason})

    @property
    def id(self) -> str:
        return id_of(RunDir(self.folder).read_spec())

    def offline_rows(self) -> list[dict[str, Any]]:
        """Every history row in the offline files, read by W&B's own tool."""
        return self.offline_records("history")

    def offline_records(self, kind: str) -> list[dict[str, Any]]:
        """Every record of a kind in the offline files, in order."""
        rows = []
        for file in sorted(self.folder.glob("wandb/offline-run-*/run-*.wandb")):
            command = [*READER, "--run-file", str(file), str(file.parents[1])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            for line in done.stdout.splitlines():
                entry = json.loads(line)
                if entry.get("type") == kind:
                    rows.append(entry)
        return rows


@pytest.fixture
def sweep_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def job(sweep_dir: Path) -> Callable[..., Job]:
    """Make a run directory: `job("pose-1.5", 0, plan="A")`."""

    def make(variant: str = "baseline", number: int = 0, **spec: Any) -> Job:
        return Job(sweep_dir, variant, number, **spec)

    return make


@pytest.fixture
def wandb_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without any W&B settings or key of the machine's user."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    return home


@pytest.fixture
def online(server: Server, wandb_env: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The loopback server, with a key for it in the environment."""
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return server


def wait_until(true: Callable[[], bool], seconds: float = 240.0) -> bool:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def until() -> Callable[..., bool]:
    return wait_until
