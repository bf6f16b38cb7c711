"""Mutated checkpoints are refused in a sentence or read; none runs code."""

import io
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.train.checkpoint_file import CheckpointError, read_checkpoint
from pipeline.train.checkpoints import KEYS, read
from pipeline.train.outcome import JobFailure


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch canary",)


def saved(content: object, **options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


OURS: dict[str, object] = dict.fromkeys(KEYS) | {"state_dict": {"w": torch.arange(6.0)}}
BASES = [
    saved(OURS),
    saved(OURS, _use_new_zipfile_serialization=False),
    saved({**OURS, "meta": Evil()}),
    pickle.dumps(Evil()),
]


@examples(40)
@given(
    base=st.sampled_from(BASES),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.floats(0, 1),
)
@pytest.mark.parametrize("reader", [read, read_checkpoint])
def test_a_checkpoint(tmp_path: Path, monkeypatch, reader, base, edits, cut) -> None:
    monkeypatch.chdir(tmp_path)
    data = bytearray(base)
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    if cut is not None:
        del data[int(cut * len(data)) :]
    file = tmp_path / "epoch_1.pth"
    file.write_bytes(bytes(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader(file)
    except (CheckpointError, JobFailure) as error:
        assert str(error)
    assert os.listdir(tmp_path) == ["epoch_1.pth"]
