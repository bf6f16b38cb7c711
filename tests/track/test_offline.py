"""Offline mode: real W&B files below the run directory, read back with W&B's own reader."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.errors import InputError
from pipeline.track import sync_state
from pipeline.track.mirror import start_mirror
from pipeline.track.run_payload import read_trial


@pytest.fixture(autouse=True)
def _alone(wandb_env):
    """No key and no settings of this machine's user."""


def local(run):
    return sync_state.read_local(read_trial(run.folder))


def opened(run):
    return bool(local(run).fragments)


def epochs(run):
    return [entry["history"]["item"]["epoch"] for entry in run.offline_rows()]


def test_every_epoch_of_every_trial_is_written_once(job, sweep_dir, until):
    one, two = job(), job("pose-1.5", plan="A")
    mirror = start_mirror(sweep_dir, "offline")
    one.measure(0, 1)
    mirror.trials_changed()
    assert until(lambda: opened(one) and opened(two))
    one.measure(2)
    two.measure(1)
    one.end("PRUNED")
    two.end("COMPLETE")
    summary = mirror.close(240)
    assert (summary.trials, summary.written, summary.sent, summary.trouble) == (2, 2, 0, None)
    assert epochs(one) == [0, 1, 2]
    assert epochs(two) == [1]
    assert sync_state.wandb_state(one.folder)["mode"] == "offline"


def test_each_epoch_is_one_step_and_the_axis_of_every_chart(job, sweep_dir):
    run = job()
    run.measure(0, 1, 2, 3)
    run.judge(3, "prune")
    run.end("PRUNED")
    start_mirror(sweep_dir, "offline").close(240)
    rows = run.offline_rows()
    steps = [(row["history"]["item"]["_step"], row["history"]["item"]["epoch"]) for row in rows]
    assert steps == [(0, 0), (1, 1), (2, 2), (3, 3)]
    globs = [one["metric"] for one in run.offline_records("metric")][1:]
    assert {one["step_metric"] for one in globs} == {"epoch"}
    names = {key for row in rows for key in row["history"]["item"] if not key.startswith("_")}
    stems = {one["glob_name"].rstrip("*"): one["options"].get("hidden", False) for one in globs}
    assert [key for key in names - {"epoch"} if not key.startswith(tuple(stems))] == []
    assert [stem for stem, hidden in stems.items() if not hidden] == ["decides/", "z-"]


def test_a_second_launch_adds_only_what_is_new(job, sweep_dir):
    run = job()
    run.measure(1, 2)
    run.end(None)
    start_mirror(sweep_dir, "offline").close(240)
    (run.folder / "outcome.json").unlink()
    run.measure(3)
    run.end("COMPLETE")
    start_mirror(sweep_dir, "offline").close(240)
    start_mirror(sweep_dir, "offline").close(240)
    assert epochs(run) == [1, 2, 3]
    assert [f.rows for f in local(run).fragments] == [2, 1]
    assert local(run).status == "complete"


LAUNCHER = """
import sys, time
from pathlib import Path
from pipeline.track.mirror import start_mirror
mirror = start_mirror(Path(sys.argv[1]), "offline")
print(mirror.children[0].process.pid, flush=True)
time.sleep(120)
"""


def launcher(sweep_dir):
    command = [sys.executable, "-c", LAUNCHER, str(sweep_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_after_sigkill_of_the_control_side_every_epoch_is_there_once(job, sweep_dir, until):
    run = job()
    run.measure(1, 2)
    process, child = launcher(sweep_dir)
    with process:
        assert until(lambda: opened(run))
        process.kill()
    assert until(lambda: gone(child)), "the tracker outlived its launcher"
    run.measure(3)
    run.end("COMPLETE")
    start_mirror(sweep_dir, "offline").close(240)
    assert epochs(run) == [1, 2, 3]


def test_after_sigkill_of_the_tracker_itself_too(job, sweep_dir, until):
    run = job()
    run.measure(1, 2)
    mirror = start_mirror(sweep_dir, "offline")
    assert until(lambda: opened(run))
    os.kill(mirror.children[0].process.pid, signal.SIGKILL)
    assert until(lambda: mirror.children[0].process.poll() is not None)
    run.measure(3)
    run.end("COMPLETE")
    mirror.trials_changed()  # notices; waits before it starts it again; the end does not wait
    summary = mirror.close(240)
    assert summary.written == 1
    assert epochs(run) == [1, 2, 3]


def test_when_the_core_process_of_wandb_is_killed_the_tracker_starts_anew(job, sweep_dir, until):
    run = job()
    run.measure(1)
    mirror = start_mirror(sweep_dir, "offline")
    assert until(lambda: opened(run))
    for pid in children(mirror.children[0].process.pid):
        os.kill(pid, signal.SIGKILL)
    run.measure(2)
    mirror.trials_changed()
    assert until(lambda: mirror.children[0].process.poll() is not None)
    assert "W&B failed" in mirror.trouble
    run.measure(3)
    run.end("COMPLETE")
    mirror.trials_changed()  # waits before it starts it again; the end does not wait
    assert mirror.close(240).written == 1
    assert epochs(run) == [1, 2, 3]


def children(pid):
    command = ["ps", "-o", "pid=", "--ppid", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def test_a_trial_with_odd_files_does_not_stop_the_others(job, sweep_dir, until):
    job("a", gates=[3]).measure(1)
    good = job("b")
    good.measure(1)
    good.end("COMPLETE")
    mirror = start_mirror(sweep_dir, "offline")
    assert until(lambda: local(good).status == "complete")
    assert "a/0: its files cannot be read" in mirror.trouble
    mirror.close(20)
    assert epochs(good) == [1]


def test_disabled_starts_no_process(job, sweep_dir):
    run = job()
    mirror = start_mirror(sweep_dir, "disabled")
    mirror.trials_changed()
    assert mirror.children == []
    assert mirror.close(0).trouble is None
    assert not (run.folder / "wandb").exists()


def test_an_unknown_mode_names_the_right_ones(sweep_dir):
    with pytest.raises(InputError, match="offline, live or disabled"):
        start_mirror(sweep_dir, "online")


def test_an_unusable_folder_is_said_once_and_mended_later(job, sweep_dir, until):
    run = job()
    run.measure(1)
    (run.folder / "wandb").write_text("in the way")  # also what keeps root from writing there
    mirror = start_mirror(sweep_dir, "offline")
    assert until(lambda: mirror.trouble is not None)
    assert mirror.close(240).written == 0
    (run.folder / "wandb").unlink()
    run.end("COMPLETE")
    assert start_mirror(sweep_dir, "offline").close(240).written == 1
    assert epochs(run) == [1]


def test_a_hanging_tracker_is_killed_and_started_again(job, sweep_dir, until, monkeypatch):
    job()
    mirror = start_mirror(sweep_dir, "offline")
    child = mirror.children[0]
    first = child.process
    assert until(lambda: child.last_event > 0 and opened_any(sweep_dir))
    os.kill(first.pid, signal.SIGSTOP)
    monkeypatch.setattr("pipeline.track.mirror.SILENCE_S", 0.5)

    def killed():
        mirror.trials_changed()
        return first.poll() is not None

    assert until(killed)
    assert "hangs" in mirror.trouble
    mirror.close(0)


def opened_any(sweep_dir):
    return any(sweep_dir.glob("*/*/wandb/pcan_sync.json"))
