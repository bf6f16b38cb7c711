"""Launching real two-process jobs: gates, ladder, two launchers, interruptions."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable

import pytest

BASELINE = (
    "  baseline: {set: {train_cfg.max_epochs: 4, val_evaluator.top1: [0.4, 0.5, 0.6, 0.7]}}\n"
)
BETTER = "  better: {plan: A, like: baseline, set: {val_evaluator.top1: [0.55, 0.6, 0.9, 0.7]}}\n"
SLOW = (
    "  baseline: {set: {train_cfg.max_epochs: 4, model.sleep: 0.25, "
    "val_evaluator.top1: [0.6, 0.7, 0.8, 0.85]}}\n"
)


def test_a_failed_gate_is_followed_by_the_fallback_and_the_winner_is_exported(project) -> None:
    project.sweep(BASELINE + BETTER, "[{epoch: 1, below: 0.5, next: [better]}]")
    done = project.launch()
    assert done.returncode == 0, done.stderr
    assert (
        "under the floor 50.00 % (within two standard errors: -10.00 points, standard error "
        "8.66 % of 32 clips). The plan's next step: better (A)." in done.stderr
    )
    trials = project.status()
    low, best = trials["baseline/0"], trials["better/0"]
    assert (low["state"], low["cause"], low["epochs"]) == ("PRUNED", "gate", 1)
    assert low["verdicts"][-1]["next"] == "better"
    assert (best["state"], best["best_top1"], best["best_epoch"]) == ("COMPLETE", 0.9, 3)
    assert project.epochs("baseline/0") == [1]
    outcome = json.loads((project.folder("better/0") / "outcome.json").read_text())
    assert outcome["checkpoint"] == "checkpoints/epoch_3.pth"

    again = project.launch()
    assert again.returncode == 0 and "starts" not in again.stderr
    said = again.stderr.splitlines()[-3:]
    assert said[0] == "better is complete, which ends the ladder."
    assert said[1].startswith("Goal 90.00 %. Best: better/0 with 90.00 %")
    assert said[2] == "Compare: pcan sweep compare tiny   Export: pcan sweep best tiny"
    assert project.call("sweep", "status", "tiny").stdout.splitlines()[-2:] == said[1:]

    exported = project.call("sweep", "best", "tiny", "--json")
    record = json.loads(exported.stdout)
    assert (record["variant"], record["top1"], record["goal_reached"]) == ("better", 0.9, True)
    stored = json.loads((project.root / "exports" / "tiny" / "best.json").read_text())
    assert [m["epoch"] for m in stored["measurements"]] == [1, 2, 3, 4]
    assert str(project.root) not in json.dumps(stored)


@pytest.mark.slow
@pytest.mark.sample
def test_two_launches_together_run_every_trial_once(project) -> None:
    project.ranks = 1
    project.sweep(BASELINE.replace("0.4,", "0.6,") + BETTER + BETTER.replace("better", "other"))
    words = project.launch_words("--policy", "all")
    both = [project.start(*words), project.start(*words)]
    texts = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    starts = [line for text in texts for line in text.splitlines() if " starts on " in line]
    assert sorted(line.split()[0] for line in starts) == ["baseline/0", "better/0", "other/0"]
    assert {t["state"] for t in project.status().values()} == {"COMPLETE"}
    assert all(t["attempts"] == 1 for t in project.status().values())


def test_ctrl_c_in_mid_epoch_goes_on_from_the_last_checkpoint(
    project, until: Callable[..., None]
) -> None:
    project.ranks = 1
    project.sweep(SLOW)
    first = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [1], "epoch 1")
    os.kill(first.pid, signal.SIGINT)
    wait_for_line(first, "Press Ctrl-C again")
    os.kill(first.pid, signal.SIGINT)
    text = first.communicate(timeout=240)[0]
    assert first.returncode == 130, text
    trial = project.status()["baseline/0"]
    assert (trial["state"], trial["phase"], trial["cause"]) == (
        "RUNNING",
        "interrupted",
        "interrupted",
    )
    assert project.job_pids() == []
    commit_all(project.root)
    command = "pcan sweep launch tiny --device cpu --wandb disabled"
    assert f"Go on: {command}" in text.splitlines()
    assert project.call("sweep", "status", "tiny").stdout.splitlines()[-1] == f"Go on: {command}"
    second = project.launch()
    assert second.returncode == 0, second.stderr
    assert "going on after epoch" in second.stderr
    assert "changed, attempt 2: the code of project is" in second.stderr
    trial = project.status()["baseline/0"]
    assert (trial["state"], trial["epochs"], trial["attempts"]) == ("COMPLETE", 4, 2)
    assert project.epochs("baseline/0") == [1, 2, 3, 4]


def commit_all(root) -> None:
    """Make the project a git folder between two starts of a trial."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    (root / ".gitignore").write_text("runs/\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *identity, "-C", str(root), *words], check=True)


@pytest.mark.slow
@pytest.mark.sample
def test_each_attempt_keeps_the_code_it_ran_with(project) -> None:
    """The export names the code of the attempt that measured the best epoch."""
    project.ranks = 1
    project.sweep(BASELINE.replace("0.4,", "0.6,"))
    commit_all(project.root)
    (project.root / "jobs" / "new.py").write_text("x = 1\n")
    assert project.launch().returncode == 0
    run = project.folder("baseline/0")
    spec = json.loads((run / "spec.json").read_text())
    commit = spec["code"]["project"]["commit"]
    assert spec["code"]["code_root"]["commit"] == commit and spec["versions"]["torch"]
    assert "+x = 1" in (run / spec["code"]["project"]["diff"]).read_text()
    (project.root / "jobs" / "new.py").unlink()
    project.call("sweep", "best", "tiny")
    record = json.loads((project.root / "exports" / "tiny" / "best.json").read_text())
    assert record["code"] == spec["code"] and record["git_commit"] == commit
    readme = (project.root / "exports" / "tiny" / "README.md").read_text()
    assert "1 file not committed" in readme


@pytest.mark.slow
@pytest.mark.sample
def test_the_first_epoch_again_is_equal_to_the_bit_in_another_folder(
    project, tmp_path_factory
) -> None:
    project.ranks = 1
    project.sweep(BASELINE.replace("0.4,", "0.6,"))
    assert project.launch().returncode == 0
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(project.root, copy)
    (copy / "runs" / "pcan.db").unlink()
    project.root = copy
    again = project.call("sweep", "rerun", "baseline/0", "--check", "--sweep", "tiny", "--json")
    assert again.returncode == 0, again.stderr
    record = json.loads(again.stdout)
    assert (record["epoch"], record["exact"], record["same"]) == (1, True, True)
    keys = {"schema", "trial", "epoch", "device", "exact", "same", "values", "changed"}
    assert record.keys() == keys
    values = {one["name"]: one for one in record["values"]}
    assert values["loss"]["recorded"] == values["loss"]["now"] != 0
    assert not list((copy / "runs" / ".cache").glob("rerun-*"))
    assert project.epochs("baseline/0") == [1, 2, 3, 4]


def wait_for_line(process, text: str) -> None:
    """Read what a launch prints up to a line with this text."""
    while text not in (line := process.stdout.readline()):
        assert line, f"the launch ended without a word about: {text}"


def test_kill_of_the_launch_leaves_no_process_and_the_trial_is_taken_up(
    project, until: Callable[..., None]
) -> None:
    project.sweep(SLOW)
    first = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [1], "epoch 1")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    until(lambda: project.job_pids() == [], "no process is left")
    assert project.status()["baseline/0"]["phase"] == "interrupted"
    second = project.launch()
    assert second.returncode == 0, second.stderr
    assert "is gone; it is resumed as the same trial" in second.stderr
    assert project.epochs("baseline/0") == [1, 2, 3, 4]
    assert project.status()["baseline/0"]["attempts"] == 2


def test_sweep_stop_ends_after_the_epoch_and_stays_resumable(
    project, until: Callable[..., None]
) -> None:
    project.ranks = 1
    endless = "patience: null, set: {train_cfg.max_epochs: 400"  # longer than any stop takes
    project.sweep(SLOW.replace("set: {train_cfg.max_epochs: 4", endless))
    first = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[:1] == [1], "epoch 1")
    stopped = project.call("sweep", "stop", "tiny")
    assert stopped.returncode == 0, stopped.stderr
    assert first.wait(timeout=120) == 75
    first.communicate()
    assert project.status()["baseline/0"]["phase"] == "interrupted"


@pytest.mark.slow
@pytest.mark.sample
def test_a_non_finite_loss_of_one_rank_ends_the_job_and_calls_for_the_next(project) -> None:
    fault = (
        "{set: {train_cfg.max_epochs: 3, model.fault: {kind: nan, rank: 1, epoch: 2, step: 2}}}"
    )
    fine = (
        "{plan: B, like: baseline, set: {model.fault: null, val_evaluator.top1: [0.6, 0.7, 0.9]}}"
    )
    project.sweep(
        f"  baseline: {fault[:-2]}, val_evaluator.top1: [0.6, 0.6, 0.6]}}}}\n  lower: {fine}\n",
        "[{cause: nan, next: [lower]}]",
    )
    done = project.launch()
    trials = project.status()
    assert (trials["baseline/0"]["state"], trials["baseline/0"]["cause"]) == ("FAIL", "nan")
    assert trials["lower/0"]["state"] == "COMPLETE", done.stderr
    assert project.epochs("baseline/0") == [1]
    log = (project.folder("baseline/0") / "rank1.log").read_text()
    ended = json.loads((project.folder("baseline/0") / "outcome.json").read_text())
    assert "epoch 2, iteration 2" in ended["reason"] and "loss_rgb nan" in ended["reason"]
    assert (ended["epochs"], ended["checkpoint"]) == (1, "checkpoints/epoch_1.pth"), log


@pytest.fixture(scope="module")
def faulty(module_project):
    """A project with a sound sweep and some that are not; its configs are rehearsed once."""
    project = module_project
    project.sweep(BASELINE)
    text = (project.root / "sweeps" / "tiny.yaml").read_text()
    files = {
        "warm": text.replace("name: tiny", "name: warm\nwarm_start: {checkpoint: w.pth}"),
        "typo": text.replace("train_cfg.max_epochs: 4", "optim_wrapper.optimiser.lr: 4"),
        "gate": text.replace("train_cfg.max_epochs: 4", "train_cfg.val_begin: 2"),
    }
    for name, content in files.items():
        (project.root / "sweeps" / f"{name}.yaml").write_text(content)
    return project


@pytest.mark.parametrize(
    ("words", "code", "reported"),
    [
        (["sweep", "launch", "nope"], 2, 'There is no sweep "nope"'),
        (["sweep", "launch", "tiny", "--variant", "x"], 2, 'has no variant "x"'),
        (["sweep", "launch", "tiny", "--device", "cuda"], 5, "shows no GPU"),
        (["sweep", "launch", "tiny", "--storage", "x.db"], 4, "write sqlite:///x.db"),
        (["sweep", "launch", "tiny", "--set", "model.width=3"], 2, "takes machine settings only"),
        (["sweep", "launch", "tiny", "--set", "data_root=/nope"], 5, "no data folder"),
        (["sweep", "launch", "tiny", "--trials", "-1"], 2, "--trials"),
        (["sweep", "best", "tiny"], 3, "no complete trial to export (no trial yet)"),
        (["sweep", "launch", "warm"], 5, "The checkpoint to start from is missing: w.pth"),
        (["sweep", "register", "typo"], 2, 'has no "optim_wrapper.optimiser.lr"'),
        (["sweep", "register", "gate"], 2, "which baseline does not validate"),
    ],
)
def test_bad_input_is_a_sentence_with_the_right_exit_code(faulty, words, code, reported) -> None:
    done = faulty.call(*words)
    assert reported in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code
    assert not (faulty.root / "runs" / "tiny").exists()
