"""Configs out of MMAction2's own tree as a sweep's base, cut down and trained for two epochs."""

import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow]

ALL = {
    "model.cls_head.num_classes": 8,
    "train_dataloader.batch_size": 4,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "val_dataloader.batch_size": 4,
    "val_dataloader.num_workers": 0,
    "val_dataloader.persistent_workers": False,
    "train_cfg.max_epochs": 2,
    "train_cfg.val_interval": 1,
    "param_scheduler": [],
    "optim_wrapper.optimizer.lr": 0.01,
}


def on_videos(small: int) -> dict[str, Any]:
    """Return the data of a config for lists of videos, at `small` pixels."""
    found: dict[str, Any] = {}
    for loader, split in (("train_dataloader", "train"), ("val_dataloader", "val")):
        found[f"{loader}.dataset.ann_file"] = f"demo/{split}.txt"
        found[f"{loader}.dataset.data_prefix.video"] = "demo/videos"
        found[f"{loader}.dataset.pipeline.3.scale"] = [-1, small + 8]
    found["train_dataloader.dataset.pipeline.5.scale"] = [small, small]
    found["val_dataloader.dataset.pipeline.4.crop_size"] = small
    return found


def on_poses(repeated: bool) -> dict[str, Any]:
    """Return the data of a config for one annotation with splits."""
    train = "train_dataloader.dataset.dataset" if repeated else "train_dataloader.dataset"
    found: dict[str, Any] = {"train_dataloader.dataset.times": 1} if repeated else {}
    for dataset, split in ((train, "train"), ("val_dataloader.dataset", "val")):
        found |= {f"{dataset}.ann_file": "demo/ann.pkl", f"{dataset}.split": split}
    return found


def clip_length(at: int, value: Any, repeated: bool = True) -> dict[str, Any]:
    train = "train_dataloader.dataset.dataset" if repeated else "train_dataloader.dataset"
    return {f"{d}.pipeline.{at}.clip_len": value for d in (train, "val_dataloader.dataset")}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tsn": (
        "recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py",
        {
            **on_videos(56),
            "train_dataloader.dataset.pipeline.4.input_size": 56,
            "model.backbone.pretrained": None,
            "model.backbone.depth": 18,
            "model.cls_head.in_channels": 512,
        },
    ),
    "slowonly": (
        "recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py",
        {**on_videos(56), "model.backbone.depth": 18, "model.cls_head.in_channels": 512},
    ),
    "posec3d": (
        "skeleton/posec3d/slowonly_r50_8xb16-u48-240e_ntu60-xsub-keypoint.py",
        {**on_poses(True), **clip_length(0, 8), "model.backbone.stage_blocks": [1, 1, 1]},
    ),
    "stgcn": (
        "skeleton/stgcn/stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-2d.py",
        {**on_poses(True), **clip_length(2, 16)},
    ),
    "rgbposeconv3d": (
        "skeleton/posec3d/rgbpose_conv3d/rgbpose_conv3d.py",
        {
            **on_poses(False),
            **clip_length(0, {"RGB": 4, "Pose": 16}, repeated=False),
            "train_dataloader.dataset.data_prefix.video": "demo/videos",
            "val_dataloader.dataset.data_prefix.video": "demo/videos",
            "train_dataloader.dataset.pipeline.3.scale": [72, 72],
            "train_dataloader.dataset.pipeline.5.scale": [64, 64],
            "val_dataloader.dataset.pipeline.3.scale": [64, 64],
            "model.backbone.rgb_pathway.base_channels": 8,
            "model.backbone.pose_pathway.base_channels": 4,
            "model.cls_head.in_channels": [256, 64],
        },
    ),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen clips of moving people, also as the lists that a video data set reads."""
    from pipeline.data.demo import make_demo

    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo(folder, clips=2)
    record = pickle.loads((folder / "ann.pkl").read_bytes())
    for split, names in record["split"].items():
        labels = {a["frame_dir"]: a["label"] for a in record["annotations"]}
        files = {file.stem: file.name for file in (folder / "videos").iterdir()}
        lines = [f"{files[Path(name).stem]} {labels[name]}" for name in names]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_stock_config_is_a_sweeps_base(name: str, project, demo: Path) -> None:
    spec = importlib.util.find_spec("mmaction")
    assert spec is not None and spec.origin is not None
    path, changes = CASES[name]
    config = Path(spec.origin).parent / ".mim" / "configs" / path
    (project.root / "demo").symlink_to(demo)
    metric = "acc/RGBPose_1:1_top1" if name == "rgbposeconv3d" else "acc/top1"
    plan = {
        "name": "stock",
        "config": str(config),
        "objective": {"metric": metric, "branches": {}},
        "job": {"gpus": 1},
        "variants": {"baseline": {"set": {**ALL, **changes}}},
        "ladder": {"start": "baseline"},
    }
    (project.root / "sweeps" / "stock.yaml").write_text(json.dumps(plan))
    words = ["sweep", "launch", "stock", "--device", "cpu", "--wandb", "disabled"]
    done = project.run(*words, timeout=580)
    assert done.returncode == 0, done.stderr
    folder = project.root / "runs" / "stock" / "baseline" / "0"
    lines = (folder / "measurements.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in lines]
    assert [m["epoch"] for m in measured] == [1, 2]
    assert all(0 <= m["top1"] <= 1 for m in measured)
    if name == "rgbposeconv3d":
        assert "load_from=" in done.stderr and "does not use" in done.stderr
