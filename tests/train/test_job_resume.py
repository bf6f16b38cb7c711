"""A job that was stopped and goes on gives what an unbroken one gives, bit for bit."""

import json

import pytest
import torch

import tiny_run
from pipeline.shared.files import write_json

#: Everything that could differ: workers that persist, dropout, momentum, batch norm of each
#: rank's own, schedulers by epoch and by iteration, augmentation from three generators.
HARD = {
    "custom_hooks": [{"type": "EMAHook"}],
    "train_dataloader.num_workers": 2,
    "train_dataloader.persistent_workers": True,
    "val_dataloader.num_workers": 1,
    "val_dataloader.persistent_workers": True,
    "param_scheduler": [
        {"type": "OneCycleLR", "eta_max": 0.05, "total_steps": 16, "by_epoch": False},
        {"type": "MultiStepLR", "milestones": [2, 3], "gamma": 0.5, "by_epoch": True},
    ],
}


def opened(rundir, epoch):
    """Open a checkpoint the way anyone may: no class allowed by hand."""
    content = torch.load(rundir.checkpoints / f"epoch_{epoch}.pth", weights_only=True)
    for name in ("time", "attempt"):
        content["meta"].pop(name)
    for name in ("time", "attempt", "seconds", "times"):
        content["measurement"].pop(name)
    return content


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    rundir = tiny_run.make_run(tmp_path_factory.mktemp("jobs") / "unbroken", HARD)
    assert tiny_run.run_ranks(rundir) == [0, 0], tiny_run.logs(rundir)
    return rundir


def test_resumed_job_equals_the_unbroken_one(unbroken, tmp_path):
    rundir = tiny_run.make_run(tmp_path / "broken", HARD)
    write_json(rundir.stop, {"state": None, "cause": "interrupted", "reason": "Ctrl-C."})
    assert tiny_run.run_ranks(rundir) == [0, 0], tiny_run.logs(rundir)
    stopped = tiny_run.outcome(rundir)
    assert (stopped["state"], stopped["cause"], stopped["epochs"]) == (None, "interrupted", 1)
    rundir.stop.unlink()
    # Killed after the checkpoint and before its line; and once while writing the next one.
    rundir.measurements.unlink()
    torn = rundir.checkpoints / ".epoch_2.pth.abc"
    torn.write_bytes(b"half")
    (rundir.checkpoints / "epoch_3.pth").write_bytes(b"of a lost past")

    tiny_run.change_spec(rundir, attempt=2, resume="checkpoints/epoch_1.pth")
    assert tiny_run.run_ranks(rundir) == [0, 0], tiny_run.logs(rundir)

    assert tiny_run.outcome(rundir)["state"] == "COMPLETE"
    assert not torn.exists()
    pairs = [[m for m in r.read_measurements()] for r in (unbroken, rundir)]
    assert [m.attempt for m in pairs[1]] == [1, 2, 2, 2]
    facts = [[(m.epoch, m.top1, m.lr, m.loss, m.extra) for m in run] for run in pairs]
    assert facts[0] == facts[1]
    for epoch in (3, 4):
        assert tiny_run.difference(opened(unbroken, epoch), opened(rundir, epoch)) is None


def test_checkpoint_holds_all_ranks_and_its_measurement(unbroken):
    content = opened(unbroken, 4)
    assert len(content["ranks"]) == 2
    first, second = content["ranks"]
    # One set of batch-norm statistics for all, so that what is saved is what was measured.
    assert not first["buffers"] and not second["buffers"]
    assert not torch.equal(first["random"]["torch"], torch.zeros_like(first["random"]["torch"]))
    line = json.loads(unbroken.measurements.read_text().splitlines()[-1])
    assert content["measurement"]["top1"] == line["top1"]


def test_augmentation_differs_between_epochs(unbroken):
    losses = [m.loss for m in unbroken.read_measurements()]
    assert len(set(losses)) == 4


def test_report_carries_the_true_lr_of_each_epoch(unbroken):
    code, answer = tiny_run.ask(
        "schedule", {"config": unbroken.config.read_text(), "iters_per_epoch": 4}
    )
    assert code == 0
    assert [m.lr for m in unbroken.read_measurements()] == answer["lr"]
