"""The handshake after an epoch, and the ends that come from outside."""

import os
import signal
import threading
import time

import pytest

import tiny_run
from pipeline.shared.files import read_json, write_json


def until(condition, what, limit=240):
    """Wait for a condition; fail with `what` if it never comes."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def judge(rundir, stop_at, seen, done):
    """Play the control side: judge each measured epoch, ask to stop after one of them."""
    while not done.is_set():
        for measurement in rundir.read_measurements()[len(seen) :]:
            seen.append(measurement.epoch)
            if measurement.epoch == stop_at:
                request = {"state": "PRUNED", "cause": "gate", "reason": "Under the floor."}
                write_json(rundir.stop, request)
            write_json(rundir.judged, {"epoch": measurement.epoch})
        time.sleep(0.05)


def test_stop_applies_to_all_ranks_after_the_judged_epoch(tmp_path):
    overrides = {
        "val_evaluator.top1": [0.5, 0.9, 0.7, 0.6, 0.6, 0.6],
        "val_evaluator.start": 0.8,
        "train_cfg.max_epochs": 6,
    }
    start = {"checkpoint": "x.pth", "expect": 0.8, "tolerance": 0.01, "on_mismatch": "stop"}
    rundir = tiny_run.make_run(tmp_path / "judged", overrides, warm_start=start, judge_wait_s=30)
    seen, done = [], threading.Event()
    control = threading.Thread(target=judge, args=(rundir, 4, seen, done))
    control.start()
    codes = tiny_run.run_ranks(rundir, STAND_IN + tiny_run.ALONE)
    done.set()
    control.join()
    assert codes == [0, 0], tiny_run.logs(rundir)
    ended = tiny_run.outcome(rundir)
    assert (ended["state"], ended["cause"], ended["epochs"]) == ("PRUNED", "gate", 4)
    assert (ended["best_epoch"], ended["best_top1"]) == (2, 0.9)
    assert seen == [0, 1, 2, 3, 4]
    first = rundir.read_measurements()[0]
    assert (first.epoch, first.top1, first.lr, first.loss) == (0, 0.8, None, None)
    kept = sorted(p.name for p in rundir.checkpoints.iterdir())
    assert kept == ["epoch_2.pth", "epoch_3.pth", "epoch_4.pth"], "the newest two and the best"


#: Takes the place of the module that loads the starting weights.
STAND_IN = """
import sys, types
module = types.ModuleType("pipeline.train.warm_start")
module.WarmStartError = type("WarmStartError", (Exception,), {})
module.load_warm_start = lambda runner, spec: {"notes": ["nothing is loaded"]}
sys.modules[module.__name__] = module
"""


def test_epochs_without_validation_are_saved_and_not_measured(tmp_path):
    rundir = tiny_run.make_run(tmp_path / "every2", {"train_cfg.val_interval": 2}, nproc=1)
    assert tiny_run.run_alone(rundir) == 0, tiny_run.logs(rundir)
    assert [m.epoch for m in rundir.read_measurements()] == [2, 4]
    saved = {p.name for p in rundir.checkpoints.iterdir()}
    assert {"epoch_3.pth", "epoch_4.pth"} <= saved


@pytest.mark.parametrize("victim", ["launcher", "rank 0"])
def test_no_process_survives_a_killed_parent(victim, tmp_path):
    overrides = {"model.sleep": 0.5, "train_dataloader.num_workers": 1}
    rundir = tiny_run.make_run(tmp_path / victim.replace(" ", ""), overrides)
    launcher = tiny_run.start(rundir)
    until(lambda: (read_json(rundir.progress) or {}).get("phase") == "train", "no training")
    assert len(tiny_run.processes_of(rundir)) >= 3
    if victim == "launcher":
        launcher.kill()
    else:
        ranks = [p for p in tiny_run.processes_of(rundir) if p != launcher.pid]
        os.kill(min(ranks), signal.SIGKILL)
    launcher.wait(240)
    until(lambda: not tiny_run.processes_of(rundir), "processes are left")
    assert not rundir.outcome.exists()
