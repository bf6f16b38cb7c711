"""Faults of real jobs that take a minute each: stopped or deaf ranks, a full disk, exports."""

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
sample = pytest.mark.sample

TOP1 = "val_evaluator.top1: [0.6, 0.7, 0.8, 0.85]"
SLOW = f"  baseline: {{set: {{train_cfg.max_epochs: 4, model.sleep: 0.25, {TOP1}}}}}\n"


def rank_pid(project, rank: int) -> int:
    """Return the process of a rank: torchrun's child, not a data worker."""
    for pid in project.job_pids():
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if f"RANK={rank}".encode() in environ and b"torch.distributed.run" not in words:
            return pid
    raise AssertionError(f"rank {rank} does not run")


def stop_at_once(launch) -> str:
    """Press Ctrl-C twice, the second time once the first was heard; return what is printed."""
    os.kill(launch.pid, signal.SIGINT)
    reported = ""
    while "Press Ctrl-C again" not in reported:
        line = launch.stdout.readline()
        assert line, reported
        reported += line
    os.kill(launch.pid, signal.SIGINT)
    return reported + launch.communicate(timeout=120)[0]


@sample
def test_a_rank_stopped_by_a_signal_is_a_stall_and_its_job_is_ended(
    project, until, monkeypatch
) -> None:
    monkeypatch.setenv("PCAN_STALL_S", "8")
    project.sweep(SLOW)
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("lost_worker: 2", "stall: 1"))
    launch = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [2], "epoch 2")
    stopped = rank_pid(project, 1)
    os.kill(stopped, signal.SIGSTOP)
    text = launch.communicate(timeout=400)[0]
    # Stopped, it could neither answer a TERM nor go by itself; the next start went on.
    assert not Path(f"/proc/{stopped}").exists()
    assert launch.returncode == 0 and "(stall); starting it again" in text, text
    assert "most recent call first" in (project.folder("baseline/0") / "rank0.log").read_text()
    assert project.epochs("baseline/0") == [1, 2, 3, 4]


@sample
def test_ranks_that_ignore_term_are_killed_and_it_is_said(project, until) -> None:
    project.sweep(SLOW.replace("model.sleep: 0.25", "model.sleep: 30, model.deaf: true"))
    launch = project.start(*project.launch_words())
    log = project.folder("baseline/0") / "rank1.log"
    until(lambda: log.exists() and "this rank is deaf" in log.read_text(), "the ranks are up")
    text = stop_at_once(launch)
    assert launch.returncode == 130, text
    assert "its processes get SIGTERM now and are killed in 10 s" in text
    assert project.job_pids() == []
    assert project.status()["baseline/0"]["phase"] == "interrupted"


@pytest.fixture
def small_disk(project):
    """The runs folder on a file system of its own, and how to fill it or make room."""
    runs = project.root / "runs"
    runs.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=600m,mode=700", "tmpfs", str(runs)]
    if subprocess.run(made, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system here")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(runs)], check=True)

    def fill() -> None:
        about = os.statvfs(runs)
        used = (about.f_blocks - about.f_bfree) * about.f_bsize
        resize(f"{used // 1024 + 40}k")

    yield fill, lambda: resize("600m")
    subprocess.run(["umount", "-l", str(runs)], check=False)


@sample
def test_a_disk_that_fills_up_under_a_job_costs_no_epoch(
    project, until, small_disk, monkeypatch
) -> None:
    fill, make_room = small_disk
    # Where the storage cannot be written either, the launch waits for that with nothing running.
    monkeypatch.setenv("PCAN_STORAGE_PATIENCE_S", "5")
    project.sweep(SLOW.replace("model.sleep", "model.width: 256, model.sleep"))
    launch = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [1], "epoch 1")
    fill()
    text = launch.communicate(timeout=300)[0]
    assert launch.returncode in (4, 5) and "Traceback" not in text, text
    assert "disk is full" in text or "database or disk is full" in text, text
    done = project.epochs("baseline/0")
    assert done == list(range(1, len(done) + 1)) and len(done) < 4
    make_room()
    again = project.launch()
    assert again.returncode == 0, again.stderr
    assert "going on after epoch" in again.stderr
    assert project.epochs("baseline/0") == [1, 2, 3, 4]
    assert project.status()["baseline/0"]["state"] == "COMPLETE"


@sample
def test_exports_during_a_sweep_and_two_at_once_are_whole(project, until) -> None:
    project.ranks = 1
    project.sweep(
        f"  baseline: {{set: {{train_cfg.max_epochs: 1, {TOP1}}}}}\n"
        "  long: {like: baseline, patience: null, "
        "set: {train_cfg.max_epochs: 400, model.sleep: 1}}\n"
    )
    launch = project.start(*project.launch_words("--policy", "all"))
    until(lambda: project.epochs("baseline/0") == [1], "the first trial's epoch")
    until(lambda: project.epochs("long/0")[:1] == [1], "the second trial's first epoch")
    words = project.argv("sweep", "best", "tiny", "--json")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [
        subprocess.Popen(words, cwd=project.root, env=project.env(), **pipes) for _ in range(2)
    ]
    reported = [process.communicate(timeout=300) for process in both]
    records = [json.loads(out) for out, _ in reported]
    assert all(b"Still running: long/0. The winner may change." in err for _, err in reported)
    assert [process.returncode for process in both] == [0, 0]
    assert {(r["variant"], r["number"], r["top1"]) for r in records} == {("baseline", 0, 0.6)}
    out = project.root / "exports" / "tiny"
    weights = {"weights.pth", "weights.safetensors"}
    names = {"README.md", "best.json", "config.py", "requirements.txt", *weights}
    assert {file.name for file in out.iterdir()} == names
    digest = hashlib.sha256((out / "weights.pth").read_bytes()).hexdigest()
    best = json.loads((out / "best.json").read_text())
    assert best["sha256"] == digest
    assert [(o["trial"], o["state"]) for o in best["others"]] == [("long/0", "RUNNING")]
    assert [file.name for file in out.parent.iterdir()] == ["tiny"], "no scraps"
    stop_at_once(launch)


def test_patience_after_a_kill_ends_at_the_epoch_of_the_unbroken_run(project, until) -> None:
    values = "val_evaluator.top1: [0.6, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]"
    project.sweep(
        f"  baseline: {{set: {{train_cfg.max_epochs: 8, {values}, model.sleep: 0.2}}}}\n"
    )
    first = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [4], "two epochs of three without a gain")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    until(lambda: project.job_pids() == [], "no process is left")
    again = project.launch()
    assert again.returncode == 0, again.stderr
    trial = project.status()["baseline/0"]
    # Three epochs without a gain after the best one, the second: as without the kill.
    assert (trial["cause"], trial["epochs"], trial["attempts"]) == ("patience", 5, 2)
    assert project.epochs("baseline/0") == [1, 2, 3, 4, 5]
