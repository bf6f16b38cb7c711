"""What `doctor` and `data check` say of labels and joints, in the same words."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.check import check
from pipeline.data.clip_problems import joint_problems, label_problems
from pipeline.data.sources import of_files
from pipeline.errors import InputError
from pipeline.preflight.plan_checks import joint_findings, label_findings


def clip(name: str, label: object = 0, joints: object = None) -> dict:
    joints = np.ones((1, 2, 3, 2)) if joints is None else joints
    more = {"total_frames": 2, "img_shape": (10, 20)}
    return {"frame_dir": name, "label": label, "keypoint": joints, **more}


@pytest.mark.parametrize(
    ("labels", "classes", "severity", "reported"),
    [
        ([0, 1, 2], 3, None, ""),
        ([1, 2, 3], 3, "error", "1 of 3 clips have a label outside 0...2: c2 (label 3). The lab"),
        ([1, 2, 2], 3, "warning", "No clip has the label 0. The labels begin at 1"),
        ([1, 2, 3], None, "warning", "subtract 1 from each label"),
        ([0, 60], 60, "error", "c1 (label 60). Use the annotation that belongs to"),
        ([0, -1, "1", 1.0, None, True], None, "error", "5 of 6 clips have a label that is not a"),
        ([0.0, 1.0], 2, "error", "the labels are of the type float (c0: 0.0), wanted are whole"),
        (["0", "1"], 2, "error", "the labels are of the type str (c0: '0')"),
        ([2, 3], 4, None, ""),
        ([], 3, None, ""),
    ],
)
def test_labels_that_are_no_class_are_named(labels, classes, severity, reported: str) -> None:
    clips = [clip(f"c{n}", label) for n, label in enumerate(labels)]
    found = list(label_problems(clips, classes))
    assert [s for s, _ in found] == ([severity] if severity else [])
    assert all(reported in text for _, text in found), found


@pytest.mark.parametrize(
    ("joints", "severity", "reported"),
    [
        (np.ones((1, 2, 3, 2)), None, ""),
        (np.full((1, 2, 3, 2), np.nan), "warning", "joints that are NaN: a. They count as"),
        (np.zeros((1, 2, 3, 2)), "warning", "no person in any frame (all joints are 0): a."),
        (np.zeros((0, 2, 3, 2)), "error", "1 clip has no joints: a."),
        (np.zeros((2, 0, 3, 2)), "error", "no joints: a"),
        ([], "error", "no joints: a"),
        (np.zeros((1, 2, 3, 2), np.float16), "warning", "no person"),
        (np.full((1, 2, 3, 2), np.inf), "error", "joints that are infinite: a."),
    ],
)
def test_clips_without_a_person_are_named(joints, severity, reported: str) -> None:
    found = list(joint_problems([clip("a", 0, joints), clip("b")]))
    assert {s for s, _ in found} == ({severity} if severity else set())
    assert not severity or any(reported in text for _, text in found), found


def test_what_doctor_says_of_clips_data_check_says_too(tmp_path: Path) -> None:
    joints = (np.full((1, 2, 3, 2), np.nan), np.zeros((0, 2, 3, 2)), None)
    clips = [clip(f"c{n}", n + 1, one) for n, one in enumerate(joints)]
    split = {"train": ["c0", "c1", "c2"], "val": []}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": split, "annotations": clips}))
    doctor = [*label_findings(clips, 3, "x"), *joint_findings(clips, "x")]
    assert len(doctor) == 3 and not any("wrong form" in f.message for f in doctor)
    sources = of_files(tmp_path / "a.pkl", tmp_path, "train", None)
    reported = {(f.severity, f.text) for f in check(sources, decode=0, classes=3)}
    assert {(f.severity, f.message.removeprefix("x: ")) for f in doctor} <= reported


@pytest.mark.parametrize(
    ("key", "value", "reported"),
    [
        ("img_shape", None, "a: img_shape is None, wanted is (height, width)"),
        ("img_shape", (10, 20, 3), "a: img_shape is (10, 20, 3), wanted is"),
        ("img_shape", "10x20", "a: img_shape is '10x20'"),
        ("total_frames", None, "a: total_frames is None, wanted is a whole number from 1"),
        ("total_frames", 0, "a: total_frames is 0"),
        ("total_frames", float("inf"), "a: total_frames is inf"),
        ("total_frames", 3, "a: joints of 2 frames, total_frames is 3"),
        ("keypoint", np.full((1, 2, 3, 2), "1"), "a: keypoint is an array of <U1, wanted are num"),
        ("keypoint_score", np.full((1, 2, 3), np.nan), "scores that are NaN: a."),
    ],
)
def test_what_a_clip_lacks_is_named_with_the_clip(
    tmp_path: Path, key, value, reported: str
) -> None:
    path = tmp_path / "ann.pkl"
    content = {"split": {"train": ["a"]}, "annotations": [{**clip("a"), key: value}]}
    path.write_bytes(pickle.dumps(content))
    texts = [f.text for f in check(of_files(path, tmp_path, "train", None), decode=1)]
    assert any(reported in text for text in texts), texts


def test_joints_that_are_shares_of_the_picture_are_named() -> None:
    large = {"img_shape": (1080, 1920)}
    shares = [{**clip("a", 0, np.full((1, 2, 3, 2), 0.4)), **large}]
    (found,) = joint_problems(shares)
    assert "look like shares of the picture" in found[1]
    assert not list(
        joint_problems([*shares, {**clip("b", 0, np.full((1, 2, 3, 2), 40)), **large}])
    )


@pytest.mark.parametrize(
    ("names", "reported"),
    [
        (["b.avi"], 'it lists names such as "b.avi", and clips are called such as "a"'),
        ([], "no clip is listed in it"),
        (4, 'its split "train" is of the type int, wanted is a list of names'),
        ("a", 'its split "train" is of the type str'),
    ],
)
def test_a_split_that_fits_no_clip_says_why(tmp_path: Path, names: object, reported: str) -> None:
    path = tmp_path / "ann.pkl"
    path.write_bytes(pickle.dumps({"split": {"train": names}, "annotations": [clip("a")]}))
    try:
        texts = [f.text for f in check(of_files(path, tmp_path, "train", None), decode=0)]
    except InputError as error:
        texts = [str(error)]
    assert any(reported in text for text in texts), texts
