"""A search as real two-process jobs: the ladder, a kill in a pause, a lost checkpoint."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tiny_run

#: The first epoch's value is drawn, so that trials differ; the weights differ by lr.
VARIANTS = """\
  baseline:
    set:
      train_cfg.max_epochs: 4
      val_evaluator.top1: [0.9, 0.3, 0.3, 0.95]
      optim_wrapper.optimizer.lr: 0.01
      param_scheduler:
        - {type: CosineAnnealingLR, T_max: 4, eta_min: 1e-5, by_epoch: true, begin: 0, end: 4}
    space:
      optim_wrapper.optimizer.lr: {low: 1e-3, high: 0.1, log: true}
      val_evaluator.top1.0: {low: 0.4, high: 0.9}
"""
SEARCH = "search: {rule: ladder, at: [0.5], finish: 1, seed: 3}\n"


def write(project) -> None:
    project.ranks = 1
    project.sweep(VARIANTS)
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text() + SEARCH)


def words(*more: str) -> list[str]:
    return ["sweep", "search", "tiny", "--device", "cpu", "--wandb", "disabled", *more]


@pytest.fixture(scope="module")
def searched(module_project) -> Iterator[tuple[object, str, dict]]:
    """A ladder of three, killed with its first trial paused, whose checkpoint then went."""
    project = module_project
    write(project)
    first = project.start(*words("--trials", "3"))
    text = ""
    for line in first.stdout:
        text += line
        if "baseline/3 starts" in line:
            break
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    between = project.status()
    shutil.rmtree(project.folder("baseline/1") / "checkpoints")
    second = project.run(*words("--trials", "3"))
    yield project, text + second.stderr, between
    assert second.returncode == 3, second.stderr


def test_a_paused_trial_outlives_its_launcher(searched) -> None:
    _, text, between = searched
    trial = between["baseline/1"]
    assert (trial["state"], trial["phase"], trial["cause"]) == ("RUNNING", "paused", "paused")
    assert trial["next_gate"] is None
    assert "Searching around baseline: 3 trials (ladder, checked after epoch 3)." in text
    assert "paused until 2 others got there too" in text


def test_a_checkpoint_lost_in_a_pause_fails_that_trial_alone(searched) -> None:
    project, text, _ = searched
    trials = project.status()
    lost = trials["baseline/1"]
    assert (lost["state"], lost["cause"]) == ("FAIL", "lost_checkpoint")
    assert "its checkpoint of epoch 3 was lost while it was paused" in text
    others = [trials[f"baseline/{n}"]["state"] for n in (2, 3)]
    assert sorted(others) == ["COMPLETE", "PRUNED"]


def test_every_decision_is_one_sentence_on_record(searched) -> None:
    project, text, _ = searched
    beaten = next(t for t in project.status().values() if t["state"] == "PRUNED")
    assert beaten["reason"].startswith("epoch 3: averaged 30.0, best so far ")
    assert "rank 3 of 3 that reached epoch 3, 2 go on, cut " in beaten["reason"]
    assert beaten["cause"] == "ladder" and beaten["reason"] in text
    assert "goes on: epoch 3: averaged 30.0, best so far" in text


def test_a_drawn_lr_moves_the_schedules_end_with_it(searched) -> None:
    project, *_ = searched
    for number in (2, 3):
        spec = json.loads((project.folder(f"baseline/{number}") / "spec.json").read_text())
        lr = spec["values"]["optim_wrapper.optimizer.lr"]
        moved = spec["overrides"]["param_scheduler.0.eta_min"]
        assert moved == pytest.approx(1e-5 * lr / 0.01)
        assert (
            f"eta_min={moved!r}"
            in (project.folder(f"baseline/{number}") / "config.py").read_text()
        )


def test_pausing_and_resuming_equals_not_pausing(searched, tmp_path: Path) -> None:
    project, *_ = searched
    trials = project.status()
    name = next(n for n, t in trials.items() if t["state"] == "COMPLETE" and t["attempts"] == 2)
    spec = json.loads((project.folder(name) / "spec.json").read_text())
    alone = tiny_run.make_run(tmp_path / "alone", config_hash=spec["config_hash"], nproc=1)
    shutil.copy(project.folder(name) / "config.py", alone.config)
    assert tiny_run.run_ranks(alone, ranks=1) == [0], tiny_run.logs(alone)
    assert measured(project.folder(name)) == measured(alone.root)
    files = [f / "checkpoints" / "epoch_4.pth" for f in (project.folder(name), alone.root)]
    paused, straight = (torch.load(f, weights_only=True) for f in files)
    for key in ("state_dict", "optimizer", "param_schedulers", "ranks"):
        assert tiny_run.difference(paused[key], straight[key]) is None, key


def test_averaged_weights_are_read_once_and_are_no_result(searched) -> None:
    project, *_ = searched
    for number in (2, 3):
        folder = project.folder(f"baseline/{number}")
        assert json.loads((folder / "spec.json").read_text())["averaged_checks"] == [3]
        read = [one for one in lines(folder) if "averaged_top1" in one["extra"]]
        assert [(one["epoch"], one["extra"]["averaged_top1"]) for one in read] == [(3, 0.3)]
    assert all(t["best_top1"] != 0.3 for t in project.status().values())


def lines(folder: Path) -> list[dict]:
    return [json.loads(one) for one in (folder / "measurements.jsonl").read_text().splitlines()]


def measured(folder: Path) -> list[dict]:
    """Return the figures of each epoch, without its start's and what only ranks trials."""
    own = ("seconds", "times", "time", "attempt")
    found = [{k: v for k, v in one.items() if k not in own} for one in lines(folder)]
    for one in found:
        for key in ("averaged_top1", "averaged_seconds"):
            one["extra"].pop(key, None)
    return found
