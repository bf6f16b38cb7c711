"""Annotations are read without running what a pickle may contain."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from pipeline.data.annotation import load_annotation, load_pickle
from pipeline.errors import InputError, NotReady


def clip(name="a", frames=4):
    return {
        "frame_dir": name,
        "label": np.int64(1),
        "img_shape": (10, 20),
        "total_frames": frames,
        "keypoint": np.arange(frames * 34, dtype=np.float16).reshape(1, frames, 17, 2),
        "keypoint_score": np.asfortranarray(np.ones((1, frames, 17), np.float32)),
    }


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_annotations_of_all_protocols_are_read(tmp_path, protocol):
    path = tmp_path / "ann.pkl"
    content = {"split": {"train": ["a"]}, "annotations": [clip(), clip("b")]}
    path.write_bytes(pickle.dumps(OrderedDict(content), protocol))
    annotation = load_annotation(path)
    assert [c["frame_dir"] for c in annotation.split("train")] == ["a"]
    assert len(annotation.split(None)) == 2
    assert np.array_equal(annotation.clips[1]["keypoint"], clip()["keypoint"])


def test_arrays_written_by_the_other_numpy_are_read(tmp_path):
    text = pickle.dumps([clip()], 2).replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    (tmp_path / "ann.pkl").write_bytes(text)
    assert load_annotation(tmp_path / "ann.pkl").clips[0]["label"] == 1


class Claims:
    """An array of two texts whose type says of itself what NumPy would never write."""

    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        return np.dtype, ("U4", False, True), (3, "<", *self.state)


class ArrayOf:
    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        make = np.empty(0).__reduce__()[:2]
        return (*make, (1, (2,), self.kind, False, b"\x01\0\0\0" * 8))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("flags", [0, 63])
@pytest.mark.parametrize(
    ("inner", "names", "fields"),
    [
        (None, None, None),
        (None, ("x", "y"), {"x": (np.dtype("O"), 0), "y": (np.dtype("O"), 8)}),
        (None, ("x",), {"x": (np.dtype("O"), 1 << 40)}),
        ((np.dtype("O"), (2,)), None, None),
    ],
)
def test_bytes_are_never_taken_for_pointers(tmp_path, protocol, flags, inner, names, fields):
    array = ArrayOf(Claims(inner, names, fields, 16, 4, flags))
    content = pickle.dumps([{**clip(), "keypoint": array}], protocol)
    (tmp_path / "ann.pkl").write_bytes(content)
    if inner or names:
        with pytest.raises(InputError, match="damaged or no pickle"):
            load_annotation(tmp_path / "ann.pkl")
    else:
        read = load_annotation(tmp_path / "ann.pkl").clips[0]["keypoint"]
        assert read.dtype.flags == np.dtype("U4").flags and len(list(read)) == 2


def test_tuples_that_share_tuples_are_looked_into_once(tmp_path):
    nested = (np.ones(1),)
    for _ in range(60):
        nested = (nested, nested)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(nested))
    read = load_pickle(tmp_path / "a.pkl")
    for _ in range(60):
        assert read[0] is read[1]
        read = read[0]
    assert np.array_equal(read[0], [1])


def test_an_array_with_objects_in_its_fields_is_refused(tmp_path):
    array = np.array([(1, np.ones(2))], dtype=[("a", "i4"), ("b", "O")])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(array))
    with pytest.raises(InputError, match="refused: it has an array with objects in its fields"):
        load_pickle(tmp_path / "a.pkl")


def several_kinds():
    objects = np.empty(2, object)
    objects[:] = [np.arange(3), {"a": np.float32(2)}]
    inside_itself = [np.ones(2)]
    inside_itself.append(inside_itself)
    return [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.array(["abc", "d"]),
        np.array([b"x"]),
        np.array([(1, 2.5, "ab")], dtype=[("a", "i4"), ("b", ">f8"), ("c", "U3")]),
        np.zeros(2, dtype=[("x", "f4", (2,))]),
        np.array(["2020-01-01"], "M8[D]"),
        np.array([5], "m8[25ns]"),
        np.zeros((0, 3)),
        np.array(5),
        objects,
        (1, (np.ones(2), 2)),
        {"a": [np.str_("hi"), np.str_(""), np.datetime64("2020-01-01"), np.dtype("f4")]},
        OrderedDict(a=np.ones(1)),
        inside_itself,
    ]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_any_kind_are_read_as_numpy_reads_them(tmp_path, protocol):
    content = pickle.dumps(several_kinds(), protocol)
    (tmp_path / "a.pkl").write_bytes(content)
    read, meant = load_pickle(tmp_path / "a.pkl"), pickle.loads(content)
    assert repr(read) == repr(meant)
    assert [type(value) for value in read] == [type(value) for value in meant]
    assert all(value.flags.writeable for value in read if isinstance(value, np.ndarray))
    assert read[-1][1] is read[-1]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_that_runs_code_is_refused(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ann.pkl").write_bytes(pickle.dumps([clip(), Evil()], protocol))
    with pytest.raises(InputError, match="refused: it calls posix.system"):
        load_annotation(tmp_path / "ann.pkl")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged or no pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (pickle.dumps([clip()])[:-40], "damaged or no pickle"),
        (pickle.dumps({"a": 1}), "not a pose annotation"),
        (pickle.dumps([]), "not a pose annotation"),
        (pickle.dumps([{"label": 1}]), 'clip 0 has neither "frame_dir" nor "filename"'),
    ],
)
def test_what_is_no_annotation_is_named(tmp_path, content, says):
    (tmp_path / "ann.pkl").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_annotation(tmp_path / "ann.pkl")


def test_a_missing_file_and_a_missing_split_are_named(tmp_path):
    with pytest.raises(NotReady, match="cannot be read"):
        load_annotation(tmp_path / "none.pkl")
    (tmp_path / "ann.pkl").write_bytes(pickle.dumps([clip()]))
    with pytest.raises(InputError, match='no split "val". It has: none'):
        load_annotation(tmp_path / "ann.pkl").split("val")


def test_the_real_annotation_is_read(real_data):
    annotation = load_annotation(real_data / "utd_mhad_demo8" / "ann_coco17.pkl")
    assert len(annotation.split("xsub_val")) == 127
