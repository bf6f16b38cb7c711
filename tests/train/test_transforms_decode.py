"""Samples from packs against samples from videos, through the stock chain with the same draws."""

import copy
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.annotation import load_annotation
from pipeline.data.demo import make_demo
from pipeline.data.prepare import plan, prepare
from pipeline.data.sources import of_files
from pipeline.shared.store import StoreError, spec_data

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.registry import DATASETS, MODELS
    from mmaction.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate

    from pipeline.train.transforms import fallbacks_of, use_spec, use_store
    from pipeline.train.transforms.decode import Window

    register_all_modules()

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
CONFIG = Path(__file__).parents[2] / "configs" / "pcan_demo.py"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A small set, some of it moved so that the person is cut off by the picture's border."""
    import pickle

    folder = tmp_path_factory.mktemp("set") / "demo"
    make_demo(folder, clips=2)
    content = pickle.loads((folder / "ann.pkl").read_bytes())
    for number, clip in enumerate(content["annotations"]):
        shift = np.array([[0, 0], [-30, 0], [35, 20], [0, -40]][number % 4], np.float16)
        clip["keypoint"] = np.where(clip["keypoint"] != 0, clip["keypoint"] + shift, 0)
        if number == 5:
            clip["keypoint"][:] = 0  # no person found: the whole picture is kept
        if number == 6:
            clip["keypoint"] *= np.float16(0.05)  # a hull under 10 px
    (folder / "ann.pkl").write_bytes(pickle.dumps(content))
    return folder


def sources(demo):
    return of_files(demo / "ann.pkl", demo / "videos", train="train", val="val")


@pytest.fixture(scope="module")
def exact(demo, tmp_path_factory):
    """A store in which the training packs are lossless too."""
    root = tmp_path_factory.mktemp("store") / "exact"
    prepare(plan(root, sources(demo), "exact"), workers=1, max_bad=0)
    return root


def config_of(demo, store=None, **options):
    config = Config.fromfile(CONFIG)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = str(demo)
    if store is not None:
        use_store(config, str(store), **options)
    return config


def samples(config, loader):
    """All samples of a loader, drawn from the same seeds."""
    data = DATASETS.build(copy.deepcopy(config[loader].dataset))
    np.random.seed(0), random.seed(0), torch.manual_seed(0)
    return [data[i] for i in range(len(data))], data


def inputs(config, found):
    """What the model is given of a batch."""
    preprocess = MODELS.build(copy.deepcopy(config.model.data_preprocessor))
    return preprocess(pseudo_collate(found), True)["inputs"]


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_exact_packs_give_the_same_pictures_and_maps(demo, exact, loader):
    stock, _ = samples(config_of(demo), loader)
    ours, data = samples(config_of(demo, exact, ship_joints=False), loader)
    for one, other in zip(stock, ours, strict=True):
        assert torch.equal(one["inputs"]["imgs"], other["inputs"]["imgs"])
        assert torch.equal(one["inputs"]["heatmap_imgs"], other["inputs"]["heatmap_imgs"])
        assert one["data_samples"].gt_label == other["data_samples"].gt_label
    assert data.pipeline.transforms[1].fallbacks.total == 0


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_shipped_joints_give_the_same_model_inputs(demo, exact, loader):
    stock_config, our_config = config_of(demo), config_of(demo, exact)
    stock = inputs(stock_config, samples(stock_config, loader)[0])
    ours = inputs(our_config, samples(our_config, loader)[0])
    assert set(ours) == {"imgs", "heatmap_imgs"}
    assert torch.equal(stock["imgs"], ours["imgs"])
    torch.testing.assert_close(ours["heatmap_imgs"], stock["heatmap_imgs"], rtol=0, atol=1e-6)


def test_fine_packs_are_close_to_the_stock_pictures(demo, tmp_path):
    prepare(plan(tmp_path, sources(demo)[:1], "fine"), workers=1, max_bad=0)
    stock, _ = samples(config_of(demo), "train_dataloader")
    ours, _ = samples(config_of(demo, tmp_path), "train_dataloader")
    for one, other in zip(stock, ours, strict=True):
        difference = one["inputs"]["imgs"].double() - other["inputs"]["imgs"].double()
        assert (
            10 * np.log10(255**2 / difference.square().mean().item()) > 42
        )  # of a noisy 96 px video


def test_random_numbers_go_on_as_in_stock(demo, exact):
    for store in (None, exact):
        samples(config_of(demo, store), "train_dataloader")
        if store is None:
            after = np.random.random(), random.random()
    assert (np.random.random(), random.random()) == after


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "version":
        content[7:8] = b"9"
    elif how == "head":
        content[40] ^= 1
    elif how == "tail":
        content += b"x"
    else:  # in every picture
        for place in range(len(content) // 3, len(content), 97):
            content[place] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "version", "head", "tail", "pictures", "gone"])
def test_a_damaged_pack_is_never_trained_on(demo, exact, tmp_path, how, caplog):
    import shutil

    root = tmp_path / "store"
    shutil.copytree(exact, root)
    for path in (root / "val").glob("*.pack"):
        path.unlink() if how == "gone" else damage(path, how)
    stock, _ = samples(config_of(demo), "val_dataloader")
    ours, data = samples(config_of(demo, root, ship_joints=False), "val_dataloader")
    for one, other in zip(stock, ours, strict=True):
        assert torch.equal(one["inputs"]["imgs"], other["inputs"]["imgs"])
    assert fallbacks_of(data) == len(stock)
    assert len([r for r in caplog.records if "instead of its pack" in r.message]) == 1


def test_changed_joints_make_a_pack_stale(demo, exact):
    config = config_of(demo, exact)
    data = DATASETS.build(copy.deepcopy(config.val_dataloader.dataset))
    data.full_init()
    clip = data.get_data_info(0)
    clip["keypoint"] = clip["keypoint"] + np.float16(1)
    data.pipeline(clip)
    assert data.pipeline.transforms[1].fallbacks.total == 1


def test_another_clip_length_is_refused(demo, exact):
    config = config_of(demo)
    config.train_dataloader.dataset.pipeline[0].clip_len = dict(RGB=8, Pose=48)
    with pytest.raises(StoreError, match="The store was made for"):
        use_store(config, str(exact))


def test_a_chain_without_the_cut_is_refused(demo, exact):
    config = config_of(demo)
    del config.train_dataloader.dataset.pipeline[2]
    with pytest.raises(StoreError, match="begin with MMUniformSampleFrames, MMDecode, MMCompact"):
        use_store(config, str(exact))


def test_an_unfinished_store_is_refused(demo, tmp_path):
    with pytest.raises(StoreError, match="pcan data prepare"):
        use_store(config_of(demo), str(tmp_path))


def test_a_specification_names_its_store(demo, exact):
    data = spec_data("prepared", exact)
    config = config_of(demo)
    use_spec(config, data)
    assert config.train_dataloader.dataset.pipeline[1].type == "PackDecode"
    with pytest.raises(StoreError, match="has changed since this trial began"):
        use_spec(config_of(demo), {**data, "digest": "0" * 64})
    untouched = config_of(demo)
    for other in (None, {"store": "video"}, spec_data("video", exact)):
        use_spec(untouched, other)
    assert untouched.to_dict() == config_of(demo).to_dict()


def test_a_test_of_ten_clips_stays_on_the_videos(demo, exact):
    config = config_of(demo)
    config.test_dataloader = copy.deepcopy(config.val_dataloader)
    config.test_dataloader.dataset.pipeline[0].num_clips = 10
    use_store(config, str(exact))
    assert config.test_dataloader.dataset.pipeline[1].type == "MMDecode"
    found, _ = samples(config, "test_dataloader")
    assert inputs(config, found)["heatmap_imgs"].shape[1:] == (10, 17, 32, 12, 12)


def test_the_switched_config_survives_being_written(demo, exact, tmp_path):
    config = config_of(demo, exact)
    config.dump(str(tmp_path / "config.py"))
    again = Config.fromfile(tmp_path / "config.py")
    assert again.train_dataloader == config.train_dataloader
    assert "pipeline.train.transforms" in again.custom_imports["imports"]


def test_annotation_reads_the_demo(demo):
    assert len(load_annotation(demo / "ann.pkl").split("train")) == 8


@pytest.mark.parametrize(
    "box", [(10, 5, 30, 25), (-7, -3, 20, 15), (30, 10, 64, 60), (-5, -5, 70, 60)]
)
def test_a_window_is_cut_as_the_picture_is(box):
    from mmaction.datasets.transforms import MMCompact

    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], 64), min(box[3], 48)
    window = Window(picture[top:bottom, left:right], (left, top, right, bottom), (48, 64))
    cut = MMCompact()._compact_images
    expected, ours = (cut([image], (48, 64), box)[0] for image in (picture, window))
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize(
    "box", [(5, -30, 40, -4), (-50, 5, -1, 40), (70, 5, 90, 40), (5, 48, 40, 90), (-9, -9, 0, 0)]
)
def test_a_cut_beside_the_picture_is_black(box):
    from mmaction.datasets.transforms import MMCompact

    picture = np.random.default_rng(0).integers(1, 256, (48, 64, 3), np.uint8)
    window = Window(picture[10:20, 30:40], (30, 10, 40, 20), (48, 64))
    cut = MMCompact()._compact_images
    expected, ours = (cut([image], (48, 64), box)[0] for image in (picture, window))
    assert np.array_equal(ours, expected) and not ours.any() and ours.size


def test_validating_in_batches_predicts_the_same(demo, exact):
    config = config_of(demo, exact)
    found, _ = samples(config, "val_dataloader")
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(config.model)).eval()

    def scores(size):
        predicted = []
        for start in range(0, len(found), size):
            batch = pseudo_collate(copy.deepcopy(found[start : start + size]))
            with torch.no_grad():
                predicted += model(**model.data_preprocessor(batch, False), mode="predict")
        return torch.stack([torch.cat([*one.pred_score.values()]) for one in predicted])

    single = scores(1)
    for size in (3, 8):  # with and without a smaller last batch
        together = scores(size)
        torch.testing.assert_close(together, single, rtol=0, atol=1e-5)
        assert torch.equal(together.argmax(dim=1), single.argmax(dim=1))
