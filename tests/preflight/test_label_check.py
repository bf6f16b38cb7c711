"""The doctor tries starting weights on clips, and finds those of another order of classes."""

import random
import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from pipeline.train.tools.predict_clips import _spread, predict

import tiny_run
from pipeline.preflight.label_check import _findings
from pipeline.train.tools.tool import ToolError

METRIC = "acc/RGBPose_1:1_top1"


def weights(exchanged: bool) -> dict:
    """Return a TinyModel's weights that read the label off the first feature's sign."""
    first, one = torch.zeros(16, 8), torch.eye(16)
    first[0, 0], first[1, 0] = -10.0, 10.0  # rises with class 0, with class 1
    rows = [1, 0] if exchanged else [0, 1]
    state = {"trunk.0.weight": first, "trunk.0.bias": torch.zeros(16), "deep.weight": one}
    state["deep.bias"] = torch.zeros(16)
    for branch in ("rgb", "pose"):
        state.update({f"{branch}.weight": one[rows], f"{branch}.bias": torch.zeros(2)})
    return {"state_dict": state, "meta": {"epoch": 26}}


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    run = tiny_run.make_run(
        tmp_path_factory.mktemp("q") / "r", {"val_dataloader.dataset.length": 300}
    )
    return {"config": run.config.read_text(), "metric": METRIC, "clips": 240, "seconds": 600}


@pytest.mark.parametrize("exchanged", [False, True])
def test_weights_are_tried_on_clips_and_their_labels_audited(question, tmp_path, exchanged):
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # the samples' noise
    torch.save(weights(exchanged), tmp_path / "w.pth")
    answer = predict({**question, "checkpoint": str(tmp_path / "w.pth")})
    assert len(answer["labels"]) == 240 and set(answer["columns"]) == {"rgb", "pose"}
    found = [one.message for one in _findings("w.pth", answer)]
    assert len(found) == (3 if exchanged else 0)
    if exchanged:
        words = "w.pth, tried on 240 validation clips: the model agrees with another order of the"
        assert found[0].startswith(words) and "docs/model.md" in found[0]


def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence(question, tmp_path):
    (tmp_path / "w.pth").write_text("<html>")
    with pytest.raises(ToolError, match=r"w\.pth"):
        predict({**question, "checkpoint": str(tmp_path / "w.pth")})


@pytest.mark.parametrize("count", [1, 2, 7, 240])
def test_clips_are_read_once_each_in_any_number(count):
    assert sorted(_spread(count)) == list(range(count))
