"""Warm starts through MMEngine's real runner, on clips made of noise."""

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_run
from pipeline.train import distributed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.registry import DATASETS
    from mmaction.structures import ActionDataSample
    from mmengine.config import Config
    from mmengine.hooks import EMAHook, Hook
    from mmengine.runner import Runner

    import pipeline.train.model  # noqa: F401
    from pipeline.train.init_prototypes import CLIPS_PER_CLASS
    from pipeline.train.warm_start import WarmStartError, load_warm_start

pytestmark = pytest.mark.filterwarnings("ignore")  # mmengine's own, on torch 2.13

LABELS = [0] * 25 + [1] * 3 + [2] * 4  # class 3 has no clip


@DATASETS.register_module()
class NoiseClips(torch.utils.data.Dataset):
    """Clips whose RGB mean is their class; the pipeline is only its name."""

    def __init__(self, pipeline, test_mode=False, ann_file=""):
        self.pipeline, self.test_mode = pipeline, test_mode

    def __len__(self):
        return len(LABELS)

    def get_data_info(self, index):
        return {"label": LABELS[index]}

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        rgb = torch.randn(1, 3, 2, 32, 32, generator=generator) + LABELS[index]
        pose = torch.rand(1, 5, 8, 8, 8, generator=generator)
        return {
            "inputs": {"imgs": rgb, "heatmap_imgs": pose},
            "data_samples": ActionDataSample().set_gt_label(LABELS[index]),
        }


def config(folder, head="PCANHead"):
    shared = dict(lateral=True, fusion_kernel=3, conv1_kernel=(1, 3, 3), with_pool2=False)
    backbone = dict(
        type="PCANBackbone", speed_ratio=4, channel_ratio=4, rgb_frames=2, pose_frames=8,
        cross_channels=(8, 16), cross_heads=2,
        rgb_pathway=dict(
            shared, num_stages=4, stage_blocks=(1, 1, 1, 1), base_channels=8, lateral_infl=1,
            lateral_activate=(0, 0, 1, 1), inflate=(0, 0, 1, 1),
        ),
        pose_pathway=dict(
            shared, num_stages=3, stage_blocks=(1, 1, 1), base_channels=4, lateral_inv=True,
            lateral_infl=16, lateral_activate=(0, 1, 1), in_channels=5, out_indices=(2,),
            conv1_stride_s=1, conv1_stride_t=1, pool1_stride_s=1, pool1_stride_t=1,
            inflate=(0, 1, 1), spatial_strides=(2, 2, 2), temporal_strides=(1, 1, 1),
            dilations=(1, 1, 1),
        ),
    )  # fmt: skip
    head = dict(
        type="PCANHead", num_classes=4, in_channels=[256, 64], fine_to_coarse=[0, 0, 1, 1],
        prototype_channels=[8, 6], average_clips="prob", topk=(1,),
    )  # fmt: skip
    parts = {name: dict(type="ActionDataPreprocessor") for name in ("imgs", "heatmap_imgs")}
    loader = dict(
        batch_size=8, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(type="NoiseClips", pipeline=["train"]),
    )  # fmt: skip
    return Config(dict(
        default_scope="mmaction", work_dir=str(folder), log_level="ERROR",
        experiment_name=folder.name, randomness=dict(seed=5),
        model=dict(
            type="MMRecognizer3D", backbone=backbone, cls_head=head,
            data_preprocessor=dict(type="MultiModalDataPreprocessor", preprocessors=parts),
        ),
        train_dataloader=loader,
        val_dataloader={**loader, "dataset": dict(type="NoiseClips", pipeline=["val"])},
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=dict(type="ValLoop"),
        val_evaluator=[dict(type="AccMetric"), dict(type="CoarseAccMetric")],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.0)),
    ))  # fmt: skip


@pytest.fixture
def runner(tmp_path):
    logging.disable(logging.INFO)
    return Runner.from_cfg(config(tmp_path / "work"))


@pytest.fixture
def start(tmp_path, runner):
    """A plain RGBPoseConv3D file with weights of its own."""
    torch.manual_seed(99)
    state = {
        name: torch.randn_like(value) * 0.05 if value.is_floating_point() else value
        for name, value in runner.model.state_dict().items()
        if "cross" not in name and "prototypes_" not in name and "_coarse" not in name
    }
    state.update({n: v.abs() + 1 for n, v in state.items() if n.endswith("running_var")})
    torch.save({"state_dict": state, "meta": {"epoch": 26}}, tmp_path / "plain.pth")
    return {"checkpoint": str(tmp_path / "plain.pth"), "min_matched": 0.95, "expect": 0.9}


@pytest.mark.parametrize("average", ["ExponentialMovingAverage", "StochasticWeightAverage"])
def test_a_hook_that_averages_the_weights_begins_with_the_loaded_ones(runner, start, average):
    """EMAHook copies the model in `before_run`, when it still has random weights."""
    hook = EMAHook(ema_type=average)
    runner.register_hook(hook)
    runner.call_hook("before_run")
    load_warm_start(runner, start)
    averaged, model = hook.ema_model.module.state_dict(), runner.model.state_dict()
    assert all(torch.equal(averaged[name], model[name]) for name in model)
    assert averaged["backbone.rgb_path.conv1.conv.weight"].data_ptr() != (
        model["backbone.rgb_path.conv1.conv.weight"].data_ptr()
    )


def test_a_hook_of_the_users_finds_what_it_saved_in_the_file(runner, start):
    content = torch.load(start["checkpoint"], weights_only=True)
    torch.save({**content, "bank": torch.arange(3)}, start["checkpoint"])
    seen = {}

    class BankHook(Hook):
        def after_load_checkpoint(self, runner, checkpoint):
            seen.update(checkpoint)

    runner.register_hook(BankHook())
    load_warm_start(runner, start)
    assert seen["bank"].tolist() == [0, 1, 2]
    assert set(seen["state_dict"]) == set(runner.model.state_dict())


def test_weights_survive_the_start_of_training(runner, start):
    report = load_warm_start(runner, start)
    assert (report["kind"], report["matched_share"]) == ("rgbpose", 1.0)
    runner.train()  # at lr 0
    loaded = torch.load(start["checkpoint"], weights_only=True)["state_dict"]
    parameters = dict(runner.model.named_parameters())
    for name in set(loaded) & set(parameters):
        assert torch.equal(parameters[name], loaded[name]), name


def test_missing_prototypes_become_class_means_of_at_most_20_clips(runner, start):
    load_warm_start(runner, start)
    model, clips = runner.model.eval(), NoiseClips([])
    head = model.cls_head

    def vector(index, name):
        with torch.no_grad():
            feats = model.backbone(**clips[index]["inputs"])
            return head.calibration_features(feats)[name][0].numpy()

    def chosen(label):
        whole = [index for index, other in enumerate(LABELS) if other == label]
        count = min(CLIPS_PER_CLASS, len(whole))
        return [whole[i * len(whole) // count] for i in range(count)]

    members = {"prototypes_rgb": [chosen(k) for k in range(4)]}
    members["prototypes_pose_coarse"] = [chosen(0) + chosen(1), chosen(2)]
    for name, classes in members.items():
        for found, indices in zip(getattr(head, name).prototypes, classes, strict=True):
            if not indices:  # class 3
                assert found.norm().item() == pytest.approx(1.0)
                continue
            mean = np.mean([vector(index, name) for index in indices], axis=0)
            np.testing.assert_allclose(found.numpy(), mean, atol=1e-5)


def test_class_means_are_kept_and_used_again(runner, start, tmp_path, monkeypatch):
    torch.manual_seed(1)  # the parts that a plain file lacks are drawn again
    first = load_warm_start(runner, start)
    (kept,) = tmp_path.glob("plain.pth.prototypes-*.pth")
    assert kept.name in first["prototypes"]["prototypes_rgb"]
    assert "over 27 training clips" in first["prototypes"]["prototypes_rgb"]
    before = runner.model.cls_head.prototypes_rgb.prototypes.clone()
    monkeypatch.setattr(NoiseClips, "__getitem__", None)  # nothing is read again
    again = Runner.from_cfg(config(tmp_path / "again"))
    torch.manual_seed(1)
    second = load_warm_start(again, start)
    assert "kept in" in second["prototypes"]["prototypes_rgb"]
    assert torch.equal(again.model.cls_head.prototypes_rgb.prototypes, before)


def test_our_own_checkpoint_brings_its_prototypes(runner, start, tmp_path):
    runner.model.cls_head.prototypes_rgb.prototypes.fill_(0.25)
    path = tmp_path / "own.pth"
    torch.save({"state_dict": runner.model.state_dict()}, path)
    again = Runner.from_cfg(config(tmp_path / "again"))
    report = load_warm_start(again, {"checkpoint": str(path)})
    assert set(report["prototypes"].values()) == {"from the checkpoint"}
    assert (again.model.cls_head.prototypes_rgb.prototypes == 0.25).all()


def test_too_small_a_share_is_refused(runner, tmp_path):
    torch.save({"state_dict": {"conv1.weight": torch.ones(3)}}, tmp_path / "other.pth")
    with pytest.raises(WarmStartError, match="Only 0.0% of the weights.*min_matched is 95%"):
        load_warm_start(runner, {"checkpoint": str(tmp_path / "other.pth")})


def test_a_classifier_of_other_classes_is_refused_when_accuracy_is_expected(runner, start):
    content = torch.load(start["checkpoint"], weights_only=True)
    for name, size in (("weight", (9, 256)), ("bias", (9,))):
        content["state_dict"][f"cls_head.fc_rgb.{name}"] = torch.randn(size)
    torch.save(content, start["checkpoint"])
    with pytest.raises(WarmStartError, match="9 classes in the file and 4 in the model"):
        load_warm_start(runner, start)
    report = load_warm_start(runner, {**start, "expect": None})
    assert any("cls_head.fc_rgb.weight is [9, 256]" in note for note in report["notes"])


def test_an_unusable_file_is_a_warm_start_error(runner, tmp_path):
    (tmp_path / "empty.pth").touch()
    with pytest.raises(WarmStartError, match="empty"):
        load_warm_start(runner, {"checkpoint": str(tmp_path / "empty.pth")})


def test_validation_reports_what_the_sweep_file_names(runner, start):
    load_warm_start(runner, start)
    metrics = runner.val()
    assert {"acc/rgb_top1", "acc/RGBPose_1:1_top1", "acc/rgb_coarse_top1"} <= set(metrics)


def test_two_ranks_share_the_clips_and_get_the_same_means(runner, start, tmp_path):
    torch.manual_seed(1)
    load_warm_start(runner, start)
    for kept in tmp_path.glob("plain.pth.prototypes-*.pth"):
        kept.unlink()
    log = tmp_path / "log"
    codes = tiny_run.run_script_as_ranks(__file__, start["checkpoint"], tmp_path, log=log)
    assert codes == [0, 0], log.read_text()[-3000:]
    ranks = [torch.load(tmp_path / f"means{rank}.pth", weights_only=True) for rank in (0, 1)]
    for name, bank in runner.model.cls_head.named_children():
        if name.startswith("prototypes_"):
            assert torch.equal(ranks[0][name], ranks[1][name])
            torch.testing.assert_close(ranks[0][name], bank.prototypes)


def rank_main(checkpoint, folder):
    """One of two ranks: a warm start like the test's; writes its prototypes."""
    warnings.simplefilter("ignore")
    distributed.join("cpu")
    rank = distributed.rank()
    runner = Runner.from_cfg(config(Path(folder) / "ranks"))
    torch.manual_seed(1)
    load_warm_start(runner, {"checkpoint": checkpoint})
    head = runner.model.cls_head
    means = {n: b.prototypes for n, b in head.named_children() if n.startswith("prototypes_")}
    torch.save(means, Path(folder) / f"means{rank}.pth")
    distributed.leave()


if __name__ == "__main__":
    rank_main(*sys.argv[1:])
