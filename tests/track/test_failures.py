"""Whatever W&B does, a real two-process training gives what it gives undisturbed."""

import os
import signal
import socket
import subprocess
import time

import pytest

from pipeline.shared.files import read_json
from pipeline.track.mirror import start_mirror
from pipeline.track.run_payload import WandbTarget, read_trial
from pipeline.track.sync import sync_sweep
from pipeline.track.sync_state import read_local

tiny_run = pytest.importorskip("tiny_run", reason="the job side is not installed")

pytestmark = pytest.mark.slow
SPEC = {"sweep": "demo", "goal": 0.91, "gates": [], "bands": [], "created": "2026-01-01"}
#: A slow last epoch, so that there is time to fail in the middle of a training.
OVERRIDES = {"train_cfg.max_epochs": 4, "model.sleep": 0.1}


def results(rundir):
    """What a training gave, without what no two trainings share."""
    rows = [(m.epoch, m.top1, m.lr, m.loss, m.rgb_top1) for m in rundir.read_measurements()]
    outcome = read_json(rundir.outcome)
    assert outcome is not None, tiny_run.logs(rundir)
    return rows, outcome["state"], outcome["best_epoch"], outcome["best_top1"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("alone") / "demo" / "baseline" / "0"
    rundir = tiny_run.make_run(root, OVERRIDES, **SPEC)
    tiny_run.run(rundir)
    return results(rundir)


def train(sweep_dir, mode, during=lambda mirror: None):
    """Train a trial while it is mirrored and, after its first epoch, something is done to W&B."""
    rundir = tiny_run.make_run(sweep_dir / "baseline" / "0", OVERRIDES, **SPEC)
    mirror = start_mirror(sweep_dir, mode, "pcan")
    with tiny_run.start(rundir) as job:
        done = 0
        while job.poll() is None:
            count = len(rundir.read_measurements())
            if count > done:
                mirror.trials_changed()
            if count >= 1 and done == 0:
                during(mirror)
            done = count
            time.sleep(0.05)
    summary = mirror.close(10)
    return rundir, summary


def repaired(sweep_dir, online):
    """Sync brings every epoch there, once."""
    online.mode = "ok"
    [report] = sync_sweep(sweep_dir, WandbTarget(project="pcan", entity="lab"))
    assert report.synced, report.message
    assert online.runs[report.id].epochs() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("hang", marks=pytest.mark.sample),
        401,
        403,
        429,
        500,
    ],
)
def test_a_server_that_turns_bad(online, sweep_dir, undisturbed, mode):
    rundir, _ = train(sweep_dir, "live", lambda _: setattr(online, "mode", mode))
    assert results(rundir) == undisturbed
    repaired(sweep_dir, online)


def test_a_refused_connection(online, sweep_dir, undisturbed, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]  # held, so that nothing else listens there meanwhile
        with monkeypatch.context() as away:
            away.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
            rundir, summary = train(sweep_dir, "live")
    assert results(rundir) == undisturbed
    assert "does not answer" in summary.trouble
    repaired(sweep_dir, online)


def kill_the_core(mirror):
    for child in mirror.children:
        command = ["ps", "-o", "pid=", "--ppid", str(child.process.pid)]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        for pid in listed.stdout.split():
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.sample
def test_wandbs_own_process_is_killed(online, sweep_dir, undisturbed):
    rundir, _ = train(sweep_dir, "live", kill_the_core)
    assert results(rundir) == undisturbed
    repaired(sweep_dir, online)


def test_a_folder_that_cannot_be_written(online, sweep_dir, undisturbed):
    (sweep_dir / "baseline" / "0").mkdir(parents=True)
    (sweep_dir / "baseline" / "0" / "wandb").write_text("in the way")
    rundir, summary = train(sweep_dir, "offline")
    assert results(rundir) == undisturbed
    assert summary.trouble
    (sweep_dir / "baseline" / "0" / "wandb").unlink()
    repaired(sweep_dir, online)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, as full as a test wants it."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.sample
def test_a_disk_that_fills_up(online, small_disk, undisturbed):
    """W&B needs 20 MB free to be trusted; the job's few KB still find room."""
    sweep_dir = small_disk / "runs" / "demo"
    sweep_dir.mkdir(parents=True)
    ballast = small_disk / "ballast"
    rundir, summary = train(
        sweep_dir, "offline", lambda _: ballast.write_bytes(bytes(25 * 1024 * 1024))
    )
    assert results(rundir) == undisturbed
    assert "MB are free" in summary.trouble
    assert read_local(read_trial(rundir.root)).rows < 4
    ballast.unlink()
    repaired(sweep_dir, online)


def test_the_undisturbed_training_is_a_whole_one(undisturbed):
    """The comparison above compares something."""
    rows, state, best_epoch, _ = undisturbed
    assert [row[0] for row in rows] == [1, 2, 3, 4]
    assert (state, best_epoch in (1, 2, 3, 4)) == ("COMPLETE", True)
