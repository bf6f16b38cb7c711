"""What `doctor` and `data check` say of labels and joints, in the same words."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.check import check
from pipeline.data.clip_problems import joint_problems, label_problems
from pipeline.data.sources import of_files
from pipeline.preflight.plan_checks import joint_findings, label_findings


def clip(name: str, label: object = 0, joints: object = None) -> dict:
    joints = np.ones((1, 2, 3, 2)) if joints is None else joints
    more = {"total_frames": 2, "img_shape": (10, 20)}
    return {"frame_dir": name, "label": label, "keypoint": joints, **more}


@pytest.mark.parametrize(
    ("labels", "classes", "severity", "told"),
    [
        ([0, 1, 2], 3, None, ""),
        ([1, 2, 3], 3, "error", "1 of 3 clips have a label outside 0...2: c2 (label 3). The lab"),
        ([1, 2, 2], 3, "warning", "No clip has the label 0. The labels begin at 1"),
        ([1, 2, 3], None, "warning", "subtract 1 from each label"),
        ([0, 60], 60, "error", "c1 (label 60). Use the annotation that belongs to"),
        ([0, -1, "1", 1.0, None, True], None, "error", "5 of 6 clips have a label that is not a"),
        ([2, 3], 4, None, ""),
        ([], 3, None, ""),
    ],
)
def test_labels_that_are_no_class_are_named(labels, classes, severity, told: str) -> None:
    clips = [clip(f"c{n}", label) for n, label in enumerate(labels)]
    found = list(label_problems(clips, classes))
    assert [s for s, _ in found] == ([severity] if severity else [])
    assert all(told in text for _, text in found), found


@pytest.mark.parametrize(
    ("joints", "severity", "told"),
    [
        (np.ones((1, 2, 3, 2)), None, ""),
        (np.full((1, 2, 3, 2), np.nan), "warning", "joints that are NaN: a. They count as"),
        (np.zeros((1, 2, 3, 2)), "warning", "no person in any frame (all joints are 0): a."),
        (np.zeros((0, 2, 3, 2)), "error", "1 clip has no joints: a."),
        (np.zeros((2, 0, 3, 2)), "error", "no joints: a"),
        ([], "error", "no joints: a"),
        (np.zeros((1, 2, 3, 2), np.float16), "warning", "no person"),
    ],
)
def test_clips_without_a_person_are_named(joints, severity, told: str) -> None:
    found = list(joint_problems([clip("a", 0, joints), clip("b")]))
    assert {s for s, _ in found} == ({severity} if severity else set())
    assert not severity or any(told in text for _, text in found), found


def test_what_doctor_says_of_clips_data_check_says_too(tmp_path: Path) -> None:
    joints = (np.full((1, 2, 3, 2), np.nan), np.zeros((0, 2, 3, 2)), None)
    clips = [clip(f"c{n}", n + 1, one) for n, one in enumerate(joints)]
    split = {"train": ["c0", "c1", "c2"], "val": []}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": split, "annotations": clips}))
    doctor = [*label_findings(clips, 3, "x"), *joint_findings(clips, "x")]
    assert len(doctor) == 3 and not any("wrong form" in f.message for f in doctor)
    sources = of_files(tmp_path / "a.pkl", tmp_path, "train", None)
    told = {(f.severity, f.text) for f in check(sources, decode=0, classes=3)}
    assert {(f.severity, f.message.removeprefix("x: ")) for f in doctor} <= told
