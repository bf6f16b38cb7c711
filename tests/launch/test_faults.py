"""Faults of real two-process jobs: each is named, none takes another trial or an epoch with it."""

import contextlib
import datetime
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable

import pytest

from pipeline.study.db.urls import sqlite_url

TOP1 = "val_evaluator.top1: [0.6, 0.7, 0.8, 0.85]"
SLOW = f"  baseline: {{set: {{train_cfg.max_epochs: 4, model.sleep: 0.25, {TOP1}}}}}\n"
FAULTS = {
    "raises": "{kind: raise, rank: 1, epoch: 2, step: 3}",
    "leaves": "{kind: exit, rank: 1, epoch: 2}",
    "killed": "{kind: kill, rank: 1, epoch: 2}",
    "sleeps": "{kind: hang, rank: 1, epoch: 2, step: 3}",
}


def pids_of(project, word: str) -> list[int]:
    """Return the processes of the project's jobs whose command line has this word."""
    found = []
    for pid in project.job_pids():
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            if word.encode() in stream.read():
                found.append(pid)
    return found


def torchrun_of(project) -> list[int]:
    return pids_of(project, "torch.distributed.run")


def data_workers_of(project) -> list[int]:
    """Return the children of ranks: ranks themselves are torchrun's."""
    ranks = set(project.job_pids()) - set(torchrun_of(project))
    return [pid for pid in ranks if parent(pid) in ranks]


def parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return int(stream.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def values_in_optuna(project, variant: str) -> dict[int, float]:
    query = (
        "SELECT step, intermediate_value FROM trial_intermediate_values v "
        "JOIN pcan_trials p ON p.trial_id = v.trial_id WHERE p.variant = ?"
    )
    with sqlite3.connect(project.root / "runs" / "pcan.db") as connection:
        return dict(connection.execute(query, (variant,)).fetchall())


@pytest.fixture(scope="module")
def faulty(module_project):
    """One launch of a variant a fault; none may end the launch of the others."""
    project = module_project
    variants = f"  baseline: {{set: {{train_cfg.max_epochs: 2, {TOP1}}}}}\n"
    for name, fault in FAULTS.items():
        variants += f"  {name}: {{like: baseline, set: {{model.fault: {fault}}}}}\n"
    project.sweep(variants)
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("retry: {lost_worker: 2}", "retry: {}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCAN_STALL_S", "8")
        done = project.launch("--policy", "all")
    return project, done, project.status()


def test_failed_trials_leave_the_others_alone(faulty) -> None:
    project, done, trials = faulty
    assert done.returncode == 3, done.stderr
    assert trials["baseline/0"]["state"] == "COMPLETE"
    assert {n: t["state"] for n, t in trials.items() if n != "baseline/0"} == {
        f"{name}/0": "FAIL" for name in FAULTS
    }
    assert all(project.epochs(f"{name}/0") == [1] for name in FAULTS)
    assert "Traceback" not in done.stderr.split("Last lines")[0]


@pytest.mark.parametrize(
    ("name", "cause", "reported"),
    [
        ("raises", "code_error", "RuntimeError: this rank is to fail"),
        ("leaves", "lost_worker", ""),
        ("killed", "lost_worker", "rank 1 was ended by signal 9"),
        ("sleeps", "stall", "rank 1 stands in _fault_hang"),
    ],
)
def test_the_cause_of_a_fault_is_named(faulty, name: str, cause: str, reported: str) -> None:
    project, done, trials = faulty
    trial = trials[f"{name}/0"]
    assert trial["cause"] == cause, trial["reason"]
    assert (
        reported in trial["reason"] and f"{name}/0 failed after 1 epoch ({cause})" in done.stderr
    )


def test_the_stacks_of_a_stuck_job_are_in_its_logs(faulty) -> None:
    project, _, _ = faulty
    folder = project.folder("sleeps/0")
    assert "_fault_hang" in (folder / "rank1.log").read_text()
    assert "most recent call first" in (folder / "rank0.log").read_text()


def status_of_trials(project, storage: str) -> dict[str, tuple[object, ...]]:
    done = project.call("sweep", "status", "tiny", "--json", "--storage", storage)
    return {
        f"{study['variant']}/{trial['number']}": tuple(
            trial[key] for key in ("state", "cause", "reason", "epochs", "best_top1", "verdicts")
        )
        for study in json.loads(done.stdout)["studies"]
        for trial in study["trials"]
    }


def hours_by_status(project, storage: str) -> dict[str, float]:
    done = project.call("sweep", "status", "tiny", "--json", "--storage", storage)
    return {
        f"{study['variant']}/{trial['number']}": trial["gpu_hours"]
        for study in json.loads(done.stdout)["studies"]
        for trial in study["trials"]
    }


def hours_by_files(project, trial: str) -> float:
    """Return the hours from the only start of a trial's job to its last epoch, times its ranks."""
    folder = project.folder(trial)
    (start,) = (folder / "starts.jsonl").read_text().splitlines()
    last = (folder / "measurements.jsonl").read_text().splitlines()[-1]
    begun, ended = (
        datetime.datetime.fromisoformat(json.loads(line)["time"]) for line in (start, last)
    )
    ranks = json.loads((folder / "spec.json").read_text())["nproc"]
    return (ended - begun).total_seconds() * ranks / 3600


def test_a_lost_storage_is_refilled_from_the_run_directories(faulty) -> None:
    project, _, trials = faulty
    old, new = (sqlite_url(project.root / "runs" / f"{n}.db") for n in ("pcan", "new"))
    for _ in range(2):  # safe to repeat
        done = project.call("doctor", "tiny", "--rebuild", "--storage", new)
        assert done.returncode == 0, done.stderr
    assert status_of_trials(project, new) == status_of_trials(project, old)
    hours = hours_by_status(project, new)
    assert all(hours.values()) and hours.keys() == trials.keys()
    written = {name: hours_by_files(project, name) for name in trials}
    assert hours == pytest.approx(written, abs=1e-4)
    with sqlite3.connect(project.root / "runs" / "new.db") as database:
        count = "SELECT count(*) FROM trial_intermediate_values"
        assert database.execute(count).fetchone() == (2 + len(FAULTS),)
    again = project.launch("--policy", "all", "--storage", new)
    assert " starts on " not in again.stderr, again.stderr


def test_a_damaged_storage_is_kept_aside_and_refilled(faulty) -> None:
    project, _, _ = faulty
    runs = project.root / "runs"
    old, bad = sqlite_url(runs / "pcan.db"), sqlite_url(runs / "bad.db")
    whole = (runs / "pcan.db").read_bytes()
    (runs / "bad.db").write_bytes(whole[: len(whole) // 2])
    met = project.call("sweep", "status", "tiny", "--storage", bad)
    assert met.returncode == 4 and "pcan doctor --rebuild --storage" in met.stderr, met.stderr
    done = project.call("doctor", "--rebuild", "--storage", bad)
    assert done.returncode == 0 and "kept as runs/bad.db.damaged-" in done.stderr, done.stderr
    assert status_of_trials(project, bad) == status_of_trials(project, old)
    (aside,) = runs.glob("bad.db.damaged-*[0-9]")
    assert aside.stat().st_size == len(whole) // 2


def test_a_backup_is_a_whole_storage(faulty) -> None:
    project, _, _ = faulty
    done = project.call("sweep", "backup", "--out", "copy.db")
    assert done.returncode == 0, done.stderr
    assert (project.root / "copy.db").stat().st_mode & 0o077 == 0
    copy, old = (sqlite_url(project.root / name) for name in ("copy.db", "runs/pcan.db"))
    assert status_of_trials(project, copy) == status_of_trials(project, old)


@pytest.mark.slow
@pytest.mark.sample
def test_kills_of_torchrun_and_of_a_data_worker_cost_no_epoch(project, until) -> None:
    project.sweep(SLOW.replace("model.sleep", "train_dataloader.num_workers: 1, model.sleep"))
    launch = project.start(*project.launch_words())
    for epoch, members in ((1, torchrun_of), (2, data_workers_of)):
        until(lambda e=epoch: project.epochs("baseline/0")[-1:] >= [e], f"epoch {epoch}")
        until(lambda m=members: bool(m(project)), "a process to kill")
        os.kill(members(project)[0], signal.SIGKILL)
    text = launch.communicate(timeout=300)[0]
    assert launch.returncode == 0, text
    assert project.epochs("baseline/0") == [1, 2, 3, 4]
    assert text.count("(lost_worker); starting it again") == 2, text
    assert project.status()["baseline/0"]["state"] == "COMPLETE"


@pytest.mark.slow
@pytest.mark.sample
def test_a_launch_goes_on_from_the_newest_good_checkpoint_and_never_from_zero(
    project, until: Callable[..., None]
) -> None:
    project.ranks = 1
    project.sweep(SLOW)
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("stop_grace_s: 20", "stop_grace_s: 1"))
    first = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [2], "epoch 2")
    os.kill(first.pid, signal.SIGTERM)
    text = first.communicate(timeout=240)[0]
    assert first.returncode == 75 and "SIGTERM: stopping" in text, text
    assert project.status()["baseline/0"]["phase"] == "interrupted"
    assert project.job_pids() == []

    last = project.epochs("baseline/0")[-1]  # 2, or 3 on a busy machine
    kept = project.root / "kept"
    checkpoints = project.folder("baseline/0") / "checkpoints"
    shutil.move(checkpoints, kept)
    refused = project.launch()
    assert refused.returncode == 5, refused.stderr
    assert f"has measured {last} epochs, but none of its checkpoints" in refused.stderr
    shutil.rmtree(checkpoints)
    shutil.move(kept, checkpoints)

    os.truncate(checkpoints / f"epoch_{last}.pth", 500)
    (checkpoints / f".epoch_{last + 1}.pth.torn").write_bytes(b"half")
    second = project.launch()
    assert second.returncode == 0, second.stderr
    assert f"going on after epoch {last - 1}: " in second.stderr
    damaged = f"checkpoints/epoch_{last}.pth is damaged and is kept as epoch_{last}.damaged"
    damaged += f"; epoch_{last - 1}.pth is"
    assert f"baseline/0: {damaged} taken instead." in second.stderr
    assert project.epochs("baseline/0") == [1, 2, 3, 4]
    assert project.status()["baseline/0"]["state"] == "COMPLETE"
    assert values_in_optuna(project, "baseline") == {1: 0.6, 2: 0.7, 3: 0.8, 4: 0.85}
    log = (project.folder("baseline/0") / "rank0.log").read_text()
    assert f"Going on after epoch {last - 1}" in log
    assert not list(checkpoints.glob(".epoch_*"))


@pytest.mark.slow
@pytest.mark.sample
def test_three_times_ctrl_c_ends_everything_at_once(project, until) -> None:
    project.sweep(SLOW.replace("0.25", "30"))
    launch = project.start(*project.launch_words())
    until(lambda: len(project.job_pids()) >= 3, "the ranks are up")
    for answer in ("Stopping after the running epoch", "Stopping now", "Killing every process"):
        os.kill(launch.pid, signal.SIGINT)  # each is answered before the next is sent
        while answer not in (line := launch.stdout.readline()):
            assert line, f"it ended without: {answer}"
    text = launch.communicate(timeout=240)[0]
    assert launch.returncode == 130, text
    assert project.job_pids() == []
    assert project.status()["baseline/0"]["phase"] == "interrupted"


@pytest.mark.slow
@pytest.mark.sample
def test_training_goes_on_without_its_storage_and_the_next_launch_reports_it(
    project, until, monkeypatch
) -> None:
    monkeypatch.setenv("PCAN_STORAGE_PATIENCE_S", "3")
    project.ranks = 1
    project.sweep(SLOW)
    launch = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [1], "epoch 1")
    away = project.root / "away"
    away.mkdir()
    for file in (project.root / "runs").glob("pcan.db*"):
        file.rename(away / file.name)
    text = launch.communicate(timeout=300)[0]
    assert launch.returncode == 4, text
    assert "is gone" in text and "is kept in the run directory" in text
    assert project.epochs("baseline/0") == [1, 2, 3, 4]
    outcome = json.loads((project.folder("baseline/0") / "outcome.json").read_text())
    assert outcome["state"] == "COMPLETE"
    for file in away.iterdir():
        file.rename(project.root / "runs" / file.name)
    again = project.launch()
    assert again.returncode == 0 and " starts on " not in again.stderr, again.stderr
    assert project.status()["baseline/0"]["state"] == "COMPLETE"
    assert values_in_optuna(project, "baseline") == {1: 0.6, 2: 0.7, 3: 0.8, 4: 0.85}


@pytest.mark.slow
@pytest.mark.sample
def test_a_run_directory_that_cannot_be_made_ends_no_running_trial(project) -> None:
    project.ranks = 1
    project.sweep(SLOW.replace("0.25", "0.05") + "  other: {like: baseline}\n")
    (project.root / "runs" / "tiny" / "other").mkdir(parents=True)
    (project.root / "runs" / "tiny" / "other" / "0").write_text("in the way")
    done = project.launch("--policy", "all", "--slots", "2")
    assert done.returncode == 5 and "Traceback" not in done.stderr, done.stderr
    assert "other/0 cannot go on here: " in done.stderr
    assert "The running trials go on; no other is started." in done.stderr
    trials = project.status()
    assert (trials["baseline/0"]["state"], trials["other/0"]["phase"]) == (
        "COMPLETE",
        "interrupted",
    )


@pytest.mark.slow
@pytest.mark.sample
def test_a_time_limit_stops_after_the_epoch_and_stays_resumable(project) -> None:
    project.ranks = 1
    project.sweep(SLOW)
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("job: {", "job: {max_hours: 0.0005, "))
    done = project.launch()
    assert done.returncode == 75, done.stderr
    trial = project.status()["baseline/0"]
    assert (trial["phase"], trial["cause"]) == ("interrupted", "timeout")
    assert project.epochs("baseline/0") in ([1], [])  # none where starting took all the time


@pytest.mark.slow
@pytest.mark.sample
def test_a_slot_that_met_a_locked_storage_is_used_again(project, until) -> None:
    """A claim that fails gives its slot back, and the launch ends with nothing left to claim."""
    short = "{like: baseline, set: {train_cfg.max_epochs: 1, model.sleep: 0.0}}"
    project.ranks = 1
    project.sweep(SLOW.replace("0.25", "1.0") + f"  short: {short}\n  last: {short}\n")
    launch = project.start(*project.launch_words("--policy", "all", "--slots", "2"))
    until(lambda: project.epochs("short/0") == [1], "the short trial is about to end")
    with contextlib.closing(sqlite3.connect(project.root / "runs" / "pcan.db", 30)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        lines = [launch.stdout.readline()]
        while lines[-1] and "Running trials go on" not in lines[-1]:
            lines.append(launch.stdout.readline())
        lock.rollback()
    text = "".join(lines) + launch.communicate(timeout=300)[0]
    assert launch.returncode == 0 and "Running trials go on" in text, text
    assert project.status()["last/0"]["state"] == "COMPLETE"
    assert text.index("last/0 starts on") < text.index("baseline/0 complete"), text
