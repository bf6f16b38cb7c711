"""Mutated input: never a traceback, a hang, a file outside the folder, or code that is run.

Every reader may refuse what it is given, in its own kind of error; anything else fails here.
"""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.data.annotation import load_annotation
from pipeline.errors import PcanError
from pipeline.plan.read import read_sweep
from pipeline.preflight.machine_overrides import parse_sets
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir

ROOT = Path(__file__).resolve().parents[2]
SWEEP = (ROOT / "sweeps" / "pcan_ntu60.yaml").read_bytes()
LINES = b"".join(
    b'{"epoch": %d, "top1": 0.%d, "lr": 0.003, "extra": {"loss": 2.0}}\n' % (n, n)
    for n in range(1, 9)
)
PLANTED = [
    b"!!python/object/apply:os.system ['touch canary']",
    b"\x00",
    b"\xff\xfe",
    b"NaN",
    b"1e999",
    b"-" * 300,
    b"1__0",
    b"9" * 5000,
    b"[" * 9_000,
    b"\x1b[2J",
    b"{" * 300,
    b"../../../canary",
    b"&a [*a, *a]",
    b"cos\nsystem\n(S'touch canary'\ntR.",
]


def annotation_bytes(protocol: int) -> bytes:
    clips = [
        {"frame_dir": f"c{n}", "label": n, "keypoint": np.ones((1, 4, 17, 2), np.float16)}
        for n in range(3)
    ]
    record = {"split": {"val": ["c0", "c1"]}, "annotations": clips}
    return pickle.dumps(record, protocol=protocol)


@st.composite
def mutated(draw: st.DrawFn, base: bytes) -> bytes:
    """Cut, flip, repeat or plant a few times."""
    data = base
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["cut", "flip", "drop", "repeat", "plant"]))
        end = min(len(data), at + draw(st.integers(1, 80)))
        if kind == "cut":
            data = data[:at]
        elif kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
        elif kind == "drop":
            data = data[:at] + data[end:]
        elif kind == "repeat":
            data = data[:end] + data[at:end] * draw(st.integers(1, 20)) + data[end:]
        else:
            data = data[:at] + draw(st.sampled_from(PLANTED)) + data[at:]
    return data


@pytest.fixture
def inside(tmp_path: Path, monkeypatch) -> Path:
    """A folder that nothing but the mutated file may appear in, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only(folder: Path, *names: str) -> bool:
    return sorted(os.listdir(folder)) == sorted(names)


@examples(40)
@given(data=mutated(SWEEP))
def test_a_sweep_file(inside: Path, data: bytes) -> None:
    (inside / "s.yaml").write_bytes(data)
    try:
        sweep = read_sweep(inside / "s.yaml", inside)
    except PcanError as error:
        assert str(error)
    else:
        assert "/" not in sweep.name
    assert only(inside, "s.yaml")


@examples(40)
@given(data=mutated(LINES))
def test_measurements(inside: Path, data: bytes) -> None:
    rundir = RunDir(inside)
    rundir.measurements.write_bytes(data)
    epochs = [m.epoch for m in rundir.read_measurements()]
    assert epochs == sorted(set(epochs)) and all(epoch >= 0 for epoch in epochs)


@examples(40)
@given(data=mutated(b'{"state": "FAIL", "reason": "why", "values": {"lr": [1, null, 1e-3]}}'))
def test_a_small_file_of_a_run_directory(inside: Path, data: bytes) -> None:
    (inside / "spec.json").write_bytes(data)
    record = read_json(inside / "spec.json")
    assert record is None or isinstance(record, dict)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@examples(40)
@given(st.data())
def test_an_annotation(inside: Path, protocol: int, data: st.DataObject) -> None:
    (inside / "a.pkl").write_bytes(data.draw(mutated(annotation_bytes(protocol))))
    try:
        annotation = load_annotation(inside / "a.pkl")
        for name in annotation.splits:
            annotation.split(name)
    except PcanError as error:
        assert str(error)
    assert only(inside, "a.pkl")


@examples(40)
@given(
    pair=st.text(max_size=60)
    | st.sampled_from(["a=b", "data_root=$(touch canary)", "x.num_workers=!!python/x"])
)
def test_an_override(inside: Path, pair: str) -> None:
    try:
        parse_sets([pair])
    except PcanError as error:
        assert str(error)
    assert only(inside)
