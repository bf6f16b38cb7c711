"""How each refusal of a W&B server is said, and that nothing waits for it."""

import socket
import time

import pytest

from pipeline.track import wandb_server
from pipeline.track.mirror import start_mirror


def test_counts_the_rows_a_server_holds(online):
    assert wandb_server.held("lab", "p", "none") == wandb_server.ServerRun(
        exists=False, rows=0, last_epoch=None
    )
    online.run("r").history = ['{"epoch": 1}', '{"epoch": 2}']
    assert wandb_server.held("lab", "p", "r") == wandb_server.ServerRun(
        exists=True, rows=2, last_epoch=2
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refuses the key"),
        (403, "refuses the key"),
        (429, "asks to slow down"),
        (500, "answers with status 500"),
        (404, "answers with status 404"),
    ],
)
def test_says_why_the_server_cannot_be_used(online, status, words):
    online.mode = status
    with pytest.raises(wandb_server.NoServer, match=words):
        wandb_server.held("lab", "p", "r")


def test_a_hanging_server_is_left_after_the_deadline(online):
    online.mode = "hang"
    with pytest.raises(wandb_server.NoServer, match="does not answer"):
        wandb_server.held("lab", "p", "r", timeout_s=0.3)


def test_a_refused_connection_is_said(online, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{_closed_port()}")
    with pytest.raises(wandb_server.NoServer, match="does not answer"):
        wandb_server.held("lab", "p", "r")


def _closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_without_a_key_no_server_is_asked_and_nothing_prompts(online, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    assert not wandb_server.key_present()
    with pytest.raises(wandb_server.NoServer, match="wandb login"):
        wandb_server.held("lab", "p", "r")
    assert online.operations == []


def test_finds_the_key_that_wandb_login_left(online, monkeypatch, wandb_env):
    monkeypatch.delenv("WANDB_API_KEY")
    host = online.url.removeprefix("http://")
    (wandb_env / "netrc").write_text(f"machine {host}\n login user\n password {'a' * 40}\n")
    (wandb_env / "netrc").chmod(0o600)
    assert wandb_server.find_key() == "a" * 40


def test_reads_the_address_that_wandb_login_left(wandb_env):
    folder = wandb_env / ".config" / "wandb"
    folder.mkdir(parents=True)
    (folder / "settings").write_text("[default]\nbase_url = https://wandb.lab.example\n")
    assert wandb_server.base_url() == "https://wandb.lab.example"


def test_a_key_is_never_sent_readably_to_another_machine(online, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.lab.example")
    with pytest.raises(wandb_server.NoServer, match="https"):
        wandb_server.held("lab", "p", "r")


@pytest.mark.parametrize("status", [401, "hang"])
def test_the_launcher_waits_for_no_server(online, job, sweep_dir, until, status):
    """Each call returns at once, the trouble is said, the offline files are whole."""
    online.mode = status
    run = job()
    mirror = start_mirror(sweep_dir, "live", "pcan")
    for epoch in (1, 2, 3):
        run.measure(epoch)
        before = time.thread_time()
        mirror.trials_changed()
        assert time.thread_time() - before < 0.05
    if status == 401:
        assert until(lambda: mirror.trouble is not None)
        assert "refuses the key" in mirror.trouble
    assert until(lambda: any(sweep_dir.glob("*/*/wandb/pcan_sync.json")))
    run.end("COMPLETE")
    summary = mirror.close(5)
    assert (summary.written, summary.sent) == (1, 0)
