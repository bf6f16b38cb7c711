"""Checkpoint files: what is read, and what is refused without running it."""

import os
import pickle
import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit warns once when mmengine is imported
    from mmengine.logging import HistoryBuffer, MessageHub

    from pipeline.train.checkpoint_file import (
        CheckpointError,
        UnsafeCheckpoint,
        read_checkpoint,
        state_dict_of,
    )


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class ReachesThroughGetattr:
    def __reduce__(self):
        return getattr, (HistoryBuffer, "register_statistics")


@pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path, form):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"state_dict": {"w": torch.ones(1)}, "meta": Payload(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content["meta"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(UnsafeCheckpoint, match=r"would run \w+\.system"):
        read_checkpoint(path)
    assert not marker.exists()


def test_the_stand_in_for_getattr_reaches_nothing_else(tmp_path):
    torch.save({"state_dict": {}, "meta": ReachesThroughGetattr()}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeCheckpoint, match="getattr of register_statistics"):
        read_checkpoint(tmp_path / "evil.pth")


def test_a_full_checkpoint_of_mmengine_is_read(tmp_path):
    hub = MessageHub.get_instance("test_full_checkpoint")
    hub.update_scalar("train/loss", torch.tensor(1.5))
    hub.update_scalar("train/lr", np.float64(0.1))
    hub.update_info("epoch", 3)
    content = {
        "meta": {"epoch": 3, "cfg": "x = 1", "count": np.int64(4)},
        "state_dict": {"w": torch.ones(2)},
        "message_hub": hub.state_dict(),
    }
    torch.save(content, tmp_path / "full.pth")
    read = read_checkpoint(tmp_path / "full.pth")
    assert read["message_hub"]["log_scalars"]["train/loss"].mean() == 1.5
    assert read["meta"]["count"] == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"just text", "neither a torch archive nor a pickle"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, content, sentence):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        read_checkpoint(path)


@pytest.mark.parametrize("archive", [True, False])
def test_a_truncated_checkpoint_is_named(tmp_path, archive):
    path = tmp_path / "weights.pth"
    content = {"state_dict": {"w": torch.ones(500)}}
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CheckpointError, match="damaged or cut short at 700 bytes"):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        read_checkpoint(tmp_path / "nothing.pth")


def test_a_bare_state_dict_and_a_wrapped_one_are_found():
    bare = {"a.weight": torch.ones(1)}
    assert set(state_dict_of(bare)) == {"a.weight"}
    wrapped = {"state_dict": {"module.a.weight": torch.ones(1)}}
    assert set(state_dict_of(wrapped)) == {"a.weight"}
    with pytest.raises(CheckpointError, match="no model weights"):
        state_dict_of({"meta": {}})
