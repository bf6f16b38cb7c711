"""The online path against the loopback server: rows, filing, resumption, secrets."""

import json
import os
import re
import signal

import pytest

from pipeline.track import sync_state
from pipeline.track.mirror import start_mirror
from pipeline.track.run_payload import WandbTarget
from pipeline.track.sync import next_id, sync_sweep

TARGET = WandbTarget(project="pcan", entity="lab")


def finished(job, *args, epochs=(1, 2, 3), how="COMPLETE", **spec):
    run = job(*args, **spec)
    run.measure(*epochs)
    run.judge(1, "watch", "top-1 88.10 % is below the target 88.50 %")
    run.end(how, "as planned")
    return run


def test_live_mode_sends_every_epoch_once_while_it_runs(online, job, sweep_dir, until):
    run = job()
    run.measure(1)
    mirror = start_mirror(sweep_dir, "live", "pcan")
    assert until(lambda: run.id in online.runs)
    run.measure(2, 3)
    run.judge(3, "prune", "under the floor")
    run.end("PRUNED", "under the floor")
    summary = mirror.close(60)
    assert (summary.sent, summary.written, summary.trouble) == (1, 1, None)
    stored = online.runs[run.id]
    assert stored.epochs() == [1, 2, 3]
    assert stored.exits[-1] == 0, "pruned is not failed"
    assert stored.summary["status"] == "pruned"
    assert sync_state.wandb_state(run.folder) == {
        "id": run.id,
        "mode": "live",
        "synced": True,
        "url": f"{online.url}/lab/pcan/runs/{run.id}",
    }


def test_after_sigkill_of_the_sender_the_run_goes_on(online, job, sweep_dir, until):
    run = job()
    run.measure(1, 2)
    mirror = start_mirror(sweep_dir, "live", "pcan")
    sender = mirror.children[1]
    assert until(lambda: run.id in online.runs and online.runs[run.id].epochs() == [1, 2])
    os.kill(sender.process.pid, signal.SIGKILL)
    assert until(lambda: sender.process.poll() is not None)
    run.measure(3)
    run.end("COMPLETE")
    mirror.trials_changed()
    sender.not_before = 0.0
    mirror.trials_changed()
    assert mirror.close(60).sent == 1
    assert online.runs[run.id].epochs() == [1, 2, 3]


def test_sync_files_each_trial_and_repeats_nothing(online, job, sweep_dir):
    one = finished(job)
    two = finished(job, "pose-1.5", epochs=(1,), how="PRUNED", plan="A")
    three = finished(job, "lr-0.001", epochs=(1,), how="FAIL")
    first = sync_sweep(sweep_dir, TARGET)
    assert [(r.trial, r.sent, r.synced, r.new) for r in first] == [
        ("baseline/0", 3, True, True),
        ("lr-0.001/0", 1, True, True),
        ("pose-1.5/0", 1, True, True),
    ]
    assert [online.runs[run.id].exits[-1] for run in (one, two, three)] == [0, 0, 1]
    stored = online.runs[two.id]
    assert stored.last("groupName") == "demo"
    assert stored.last("jobType") == "pose-1.5"
    assert stored.last("displayName") == "pose-1.5/0"
    assert set(stored.last("tags")) == {"pose-1.5", "plan A", "pruned"}
    assert stored.config["optim_wrapper.optimizer.lr"]["value"] == 0.003
    assert stored.summary["best_top1"] == 0.881
    assert stored.summary["verdicts"]["_type"] == "table-file"
    asked = len(online.operations)
    again = sync_sweep(sweep_dir, TARGET)
    assert all(r.synced and not r.new for r in again)
    assert len(online.operations) == asked, "nothing was left to ask"
    assert online.runs[one.id].epochs() == [1, 2, 3]


def test_under_an_agent_the_run_stays_in_its_wandb_sweep(online, job, sweep_dir):
    given = {"id": "agents-run", "project": "pcan", "entity": None, "sweep": "s1"}
    run = finished(job, epochs=(1,), wandb=given)
    [report] = sync_sweep(sweep_dir, TARGET)
    assert report.id == run.id == "agents-run"
    assert online.runs["agents-run"].last("sweep") == "s1"


def test_sync_goes_on_where_the_server_broke_off(online, job, sweep_dir):
    run = finished(job, epochs=range(1, 6))
    stored = online.run(run.id)
    stored.history = [json.dumps({"epoch": e, "_step": e - 1}) for e in (1, 2)]
    [report] = sync_sweep(sweep_dir, TARGET)
    assert report.synced
    assert stored.epochs() == [1, 2, 3, 4, 5]


def test_sync_refuses_to_add_to_a_run_that_is_not_this_trial(online, job, sweep_dir):
    run = finished(job)
    online.run(run.id).history = [json.dumps({"epoch": 7, "_step": 0})]
    [report] = sync_sweep(sweep_dir, TARGET)
    assert not report.synced
    assert "sync --rebuild" in report.message
    assert online.runs[run.id].epochs() == [7]


def test_rebuild_makes_new_runs_from_the_measurements(online, job, sweep_dir):
    run = finished(job)
    online.run(run.id).history = [json.dumps({"epoch": 7, "_step": 0})]
    [report] = sync_sweep(sweep_dir, TARGET, rebuild=True)
    assert report.synced
    assert report.id == f"{run.id}-r2"
    assert online.runs[report.id].epochs() == [1, 2, 3]
    assert run.id in report.message


def test_each_rebuild_has_its_own_id():
    assert next_id("demo-1-abc") == "demo-1-abc-r2"
    assert next_id("demo-1-abc-r2") == "demo-1-abc-r3"


SECRETS = {
    "PCAN_STORAGE": "postgresql://u:hunter2@db/optuna",
    "AWS_SECRET_ACCESS_KEY": "AWSPLANTED" + "q" * 20,
}


def test_planted_secrets_never_leave(online, job, sweep_dir, monkeypatch, until):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    run = job(
        overrides={"storage": SECRETS["PCAN_STORAGE"], "api_token": "PLANTEDTOKEN"},
        notes="see /home/planted-user/plan.txt",
    )
    run.measure(1)
    run.judge(1, "go", "read /home/planted-user/x/y.npz with key ghp_" + "Z" * 36)
    run.end("COMPLETE")
    mirror = start_mirror(sweep_dir, "live", "pcan")
    assert mirror.close(60).sent == 1
    received = "\n".join(online.bodies)
    assert '"epoch":1' in received.replace(" ", "").replace("\\", "")
    planted = ["hunter2", "AWSPLANTED", "PLANTEDTOKEN", "planted-user", "Z" * 36, "5" * 40]
    planted += [str(sweep_dir.parent), "pytest-of"]
    assert [word for word in planted if word in received] == []
    assert not re.search(rf"\b{os.uname().nodename}\b", received)
    files = b"".join(f.read_bytes() for f in sweep_dir.rglob("*") if f.is_file() and wandbs(f))
    assert [word for word in planted[:6] if word.encode() in files] == []


def wandbs(file):
    return "wandb" in file.parts or file.name == "tracker.log"


@pytest.mark.slow
@pytest.mark.sample
def test_system_charts_in_the_offline_files_are_sent_too(online, job, sweep_dir, until):
    run = job(device="cuda")
    run.measure(1, 2)
    mirror = start_mirror(sweep_dir, "offline", "pcan")
    assert until(lambda: any(sweep_dir.glob("*/*/wandb/pcan_sync.json")))
    run.end("COMPLETE")
    mirror.close(240)
    [report] = sync_sweep(sweep_dir, TARGET)
    assert report.synced
    assert online.runs[run.id].epochs() == [1, 2]
    received = "".join(online.bodies)
    assert "wandb-events.jsonl" in received
    assert not re.search(rf"\b{os.uname().nodename}\b", received)


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.parametrize("status", [500, "hang"])
def test_a_server_that_fails_midway_is_mended_by_sync(online, job, sweep_dir, until, status):
    run = job()
    run.measure(1)
    mirror = start_mirror(sweep_dir, "live", "pcan")
    assert until(lambda: run.id in online.runs and online.runs[run.id].epochs() == [1])
    online.mode = status
    run.measure(2, 3)
    run.end("COMPLETE")
    summary = mirror.close(3)
    assert summary.sent == 0
    assert summary.written == 1, "the offline files do not depend on the server"
    online.mode = "ok"
    [report] = sync_sweep(sweep_dir, TARGET)
    assert report.synced
    assert online.runs[run.id].epochs() == [1, 2, 3]


@pytest.mark.slow
def test_sync_says_that_a_run_was_deleted_on_the_server_and_how_to_send_it_again(
    online, job, sweep_dir
):
    run = job()
    run.measure(1, 2)
    run.end("COMPLETE")
    online.deleted.add(run.id)
    [report] = sync_sweep(sweep_dir, TARGET)
    assert not report.synced and "pcan sweep sync demo --rebuild" in str(report.message), report
    [report] = sync_sweep(sweep_dir, TARGET, rebuild=True)
    assert report.synced and online.runs[f"{run.id}-r2"].epochs() == [1, 2]
