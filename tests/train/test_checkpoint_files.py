"""Checkpoint files: whole or absent, kept by rule, opened without running code."""

import os
import pickle
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

from pipeline.shared.files import append_line
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.train import checkpoints
from pipeline.train.outcome import JobFailure, record_outcome


def whole(**changes):
    """Return the least that is a checkpoint of ours."""
    return {**{key: {} for key in checkpoints.KEYS}, "schema": 1, **changes}


@pytest.fixture
def rundir(tmp_path):
    return RunDir(tmp_path)


def saved(rundir, epochs, top1):
    """Write checkpoints and measurements for these epochs."""
    for epoch, value in zip(epochs, top1, strict=True):
        checkpoints.write(checkpoints.path_of(rundir, epoch), whole())
        append_line(rundir.measurements, Measurement(epoch=epoch, top1=value).to_line())


@pytest.mark.parametrize(
    ("top1", "kept"),
    [
        ([0.9, 0.5, 0.6, 0.7], [1, 3, 4]),
        ([0.1, 0.2, 0.3, 0.4], [3, 4]),
        ([float("nan"), 0.5, 0.1, 0.1], [2, 3, 4]),
    ],
)
def test_newest_two_and_the_best_are_kept(rundir, top1, kept):
    saved(rundir, [1, 2, 3, 4], top1)
    checkpoints.prune(rundir, rundir.read_measurements())
    assert checkpoints.epochs_of(rundir) == kept


def test_failed_write_leaves_the_old_file_and_no_scraps(rundir, monkeypatch):
    path = checkpoints.path_of(rundir, 1)
    checkpoints.write(path, whole(measurement={"top1": 0.5}))

    def fill_the_disk(content, stream):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoints.write(path, whole())
    monkeypatch.undo()
    assert checkpoints.read(path)["measurement"] == {"top1": 0.5}
    assert os.listdir(rundir.checkpoints) == ["epoch_1.pth"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/pcan_was_here",)


def spoil(path, kind):
    """Make of a good checkpoint one that must be refused."""
    if kind == "missing":
        path.unlink()
    elif kind == "torn":
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "web page":
        path.write_bytes(b"<html>not found</html>")
    elif kind == "evil":
        path.write_bytes(pickle.dumps(Evil()))
    else:
        torch.save({"state_dict": {}}, path)


REFUSED = {
    "missing": "is missing",
    "torn": r"\(300 bytes\) cannot be opened",
    "empty": r"\(0 bytes\) cannot be opened",
    "web page": "cannot be opened",
    "evil": "cannot be opened",
    "weights": "has no schema, meta, optimizer",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_file_is_refused_with_a_sentence(kind, rundir):
    path = checkpoints.path_of(rundir, 1)
    checkpoints.write(path, whole())
    spoil(path, kind)
    with pytest.raises(JobFailure, match=REFUSED[kind]) as caught:
        checkpoints.read(path)
    assert caught.value.cause == "bad_checkpoint" and "\n" not in str(caught.value)
    assert not os.path.exists("/tmp/pcan_was_here")


def test_what_has_no_plain_form_is_left_out_and_named(rundir):
    lost = []
    content = {
        "number": np.float64(0.5),
        "array": np.arange(3),
        "order": OrderedDict(b=1, a=(2, [3])),
        "milestones": Counter([2, 3, 3]),
        "function": len,
        "inside": [{"module": os}],
    }
    copy = checkpoints.plain(content, lost=lost)
    assert lost == ["checkpoint.function", "checkpoint.inside[0].module"]
    checkpoints.write(rundir.root / "x.pth", copy)
    back = torch.load(rundir.root / "x.pth", weights_only=True)
    assert type(back["number"]) is float and back["array"].tolist() == [0, 1, 2]
    assert list(back["order"]) == ["b", "a"] and back["milestones"] == Counter([2, 3, 3])


def test_first_outcome_of_an_attempt_stands(rundir):
    assert record_outcome(rundir, 1, None, "interrupted", "Ctrl-C.")
    assert not record_outcome(rundir, 1, "FAIL", "nan", "Too late.", rank=1)
    assert '"interrupted"' in rundir.outcome.read_text()
    assert record_outcome(rundir, 2, "COMPLETE", None, "All done.")
    assert '"COMPLETE"' in rundir.outcome.read_text()
    assert os.listdir(rundir.root) == ["outcome.json"]
