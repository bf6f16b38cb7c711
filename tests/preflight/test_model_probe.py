"""A config that no job could train is refused before any job starts, with all that is wrong."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

VARIANTS = """\
  {name}:
    warm_start: null
    gates: []
    set: {{{change}}}
"""
CHANGES = {
    "weights": "model.cls_head.loss_weights: [1.0, 2.0, 0.5]",
    "classes": "model.cls_head.num_classes: 9",
    "coarse": "model.cls_head.fine_to_coarse: [0, 0, 1, 1, 2, 2, 4, 4]",
    "clip": "model.backbone.rgb_frames: 4",
    "joints": "model.backbone.pose_pathway.in_channels: 13",
    "sound": "train_cfg.max_epochs: 2",
}
SWEEP = """\
name: cut
config: configs/pcan_demo.py
objective: {metric: "acc/RGBPose_1:1_top1", goal: 0.9, best_known: 0.8}
job: {gpus: 2}
patience: {epochs: 3, min_delta: 0.001}
variants:
"""


def write(project, *names: str) -> None:
    root = Path(__file__).parents[2]
    shutil.copytree(root / "configs", project.root / "configs", dirs_exist_ok=True)
    variants = "".join(VARIANTS.format(name=n, change=CHANGES[n]) for n in names)
    ladder = f"ladder: {{start: {names[0]}, after: []}}\n"
    (project.root / "sweeps" / "cut.yaml").write_text(SWEEP + variants + ladder)


def annotation(project, label: int = 7, joints: int = 17) -> Path:
    """Write one clip for both splits."""
    clip = {
        "frame_dir": "one",
        "label": label,
        "total_frames": 4,
        "img_shape": (48, 48),
        "keypoint": np.ones((1, 4, joints, 2), np.float32),
    }
    file = project.root / "data" / "demo" / "ann.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"split": {"train": ["one"], "val": ["one"]}, "annotations": [clip]}
    file.write_bytes(pickle.dumps(content))
    return file


def test_each_wrong_part_is_one_sentence_and_nothing_is_registered(project) -> None:
    write(project, *CHANGES)
    done = project.call("sweep", "register", "cut")
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    expected = {
        "weights": "loss_weights is [1.0, 2.0, 0.5]; PCAN has four",
        "classes": "fine_to_coarse has 8 entries for num_classes 9",
        "coarse": "uses no coarse class 3",
        "clip": "rgb_frames",
        "joints": "the backbone is built for 13 joints",
    }
    for name, words in expected.items():
        assert any(f"{name}: " in line and words in line for line in lines), (name, lines)
    assert not any("sound: " in line for line in lines)
    assert not (project.root / "runs" / "pcan.db").exists()


@pytest.mark.parametrize(
    ("label", "joints", "words"),
    [
        (8, 17, "one in {file} has label 8, but the head has 8 classes"),
        (7, 13, "{file} has 13 joints a person, but the pose pathway is built for 17"),
    ],
)
def test_data_of_another_model_is_refused_before_a_job(project, label, joints, words) -> None:
    write(project, "sound")
    file = annotation(project, label, joints)
    done = project.call("sweep", "launch", "cut", "--device", "cpu", "--wandb", "disabled")
    assert done.returncode == 2
    assert words.format(file=file) in done.stderr
    assert not (project.root / "runs" / "cut").exists()


def test_data_that_is_not_there_is_named(project) -> None:
    write(project, "sound")
    done = project.call("sweep", "launch", "cut", "--device", "cpu", "--wandb", "disabled")
    assert done.returncode == 5
    assert "The annotation is missing" in done.stderr
    assert "--set data_root=DIR" in done.stderr


def test_a_mended_annotation_is_read_again(project) -> None:
    from pipeline.data.labels import annotation_facts

    cache = project.root / "cache"
    file = annotation(project, label=3)
    first = annotation_facts(file, cache)
    assert first["train"]["highest_label"] == first[""]["highest_label"] == 3
    assert annotation_facts(file, cache) == first
    file.write_bytes(annotation(project, label=5, joints=25).read_bytes())
    again = annotation_facts(file, cache)["val"]
    assert (again["highest_label"], again["joints"], again["clips"]) == (5, [25], 1)
