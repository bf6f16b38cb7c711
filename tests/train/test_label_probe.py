"""The probe of a head's loss: our deliberately faulty heads are found, sound ones say nothing."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from pipeline.train.compat import prepare_mmaction

    prepare_mmaction()
    import mmaction.models  # noqa: F401
    from mmaction.registry import MODELS
    from mmaction.structures import ActionDataSample
    from mmengine.model import BaseModel
    from mmengine.registry import init_default_scope

    from pipeline.train.label_probe import label_remarks
    from pipeline.train.model import PCANHead
    from pipeline.train.model.losses import hierarchy_loss

CHANNELS = (64, 16)
VOLUME = torch.rand(1, 64, 4, 7, 7)


@pytest.fixture(autouse=True)
def scope():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another test's scope is replaced
        init_default_scope("mmaction")


class Fixed(BaseModel):
    """A model whose features are given; only its head counts."""

    def __init__(self, head, feats, kwargs):
        super().__init__()
        self.cls_head, self.feats, self.kwargs = head, feats, kwargs

    def forward(self, inputs, data_samples, mode="tensor"):
        return self.cls_head.loss(self.feats, data_samples, **self.kwargs)


def remarks(head, feats, **kwargs):
    sample = ActionDataSample()
    sample.set_gt_label(1)
    torch.manual_seed(0)
    batch = {"inputs": [torch.zeros(1)], "data_samples": [sample]}
    return label_remarks(Fixed(head, feats, kwargs), batch)


def pcan(kind=PCANHead, classes=60):
    torch.manual_seed(0)
    parents = [min(8 * i // classes, 7) for i in range(classes)]
    return kind(classes, CHANNELS, parents)


def two_streams():
    return torch.rand(1, 64, 8, 2, 2), torch.rand(1, 16, 8, 2, 2)


class LowerWithoutZero(PCANHead):
    """Trains labels one too low in a batch without label 0."""

    def _labels(self, features, data_samples):
        labels = super()._labels(features, data_samples)
        return labels - 1 if labels.min() > 0 else labels


class AlwaysLower(PCANHead):
    def _labels(self, features, data_samples):
        return (super()._labels(features, data_samples) - 1).clamp_min(0)


class OtherMap(PCANHead):
    """Takes another grouping in a batch without a label of 52 or more."""

    def _classification(self, logits, labels):
        own = self.parents
        if labels.max() < 52:
            self.parents = (own + torch.arange(len(own)) % 2).clamp(max=self.num_coarse - 1)
        terms = super()._classification(logits, labels)
        self.parents = own
        return terms


class ShortTree(PCANHead):
    """Its tree loss places the fine classes one too early."""

    def _classification(self, logits, labels):
        terms = super()._classification(logits, labels)
        early = (labels - 1).clamp_min(0)
        for stream, (fine, coarse) in zip(("rgb", "pose"), logits, strict=True):
            tree = hierarchy_loss(fine, coarse, early, self.parents)
            terms[f"{stream}_loss_hierarchy"] = tree
        return terms


def test_labels_one_too_low_in_a_batch_without_label_0_are_found():
    for classes in (8, 60):
        (found,) = remarks(pcan(LowerWithoutZero, classes), two_streams())
        assert (
            "depends on which other labels are in the batch: in a batch without label 0" in found
        )
        assert "it trains label 1 as 0" in found and "rgb_loss_cls" in found


def test_labels_always_one_too_low_are_found():
    (found,) = remarks(pcan(AlwaysLower), two_streams())
    assert "trains label - 1 in place of the label (rgb_loss_cls, rgb_loss_hierarchy" in found


def test_another_grouping_in_batches_without_high_labels_is_found():
    (found,) = remarks(pcan(OtherMap), two_streams())
    assert "in a batch of labels below 30 it trains label" in found
    assert "(rgb_coarse_loss_cls, pose_coarse_loss_cls)" in found


def test_a_tree_that_places_the_fine_classes_one_too_early_is_found():
    (found,) = remarks(pcan(ShortTree), two_streams())
    assert "trains label - 1 in place of the label (rgb_loss_hierarchy, pose_" in found


STOCK = {
    "I3DHead": (VOLUME, {}),
    "SlowFastHead": ((VOLUME, torch.rand(1, 16, 8, 7, 7)), {}),
    "X3DHead": (VOLUME, {}),
    "GCNHead": (torch.rand(1, 2, 64, 10, 17), {}),
    "TimeSformerHead": (torch.rand(1, 64), {}),
    "UniFormerHead": (torch.rand(1, 64), {}),
    "TSNHead": (torch.rand(3, 64, 7, 7), {"num_segs": 3}),
    "TRNHead": (torch.rand(3, 64, 7, 7), {"num_segs": 3, "num_segments": 3}),
}


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("classes", [8, 60])
def test_stock_heads_say_nothing_and_are_read(name, classes):
    feats, extra = STOCK[name]
    options = {k: v for k, v in extra.items() if k == "num_segments"}
    wide = 80 if name == "SlowFastHead" else 64
    head = {"type": name, "num_classes": classes, "in_channels": wide, **options}
    call = {k: v for k, v in extra.items() if k == "num_segs"}
    built = MODELS.build(head)
    assert remarks(built, feats, **call) == []
    with pytest.MonkeyPatch.context() as patch:
        sound = type(built).loss
        patch.setattr(type(built), "loss", lambda self, f, s, **k: sound(self, f, lower(s), **k))
        assert any("label - 1" in one for one in remarks(built, feats, **call))


def lower(samples):
    """Return samples whose labels are one too low."""
    made = [sample.clone() for sample in samples]
    for sample in made:
        sample.set_gt_label((sample.gt_label - 1).clamp_min(0))
    return made


@pytest.mark.parametrize("classes", [8, 60])
def test_pcan_and_rgbpose_heads_say_nothing(classes):
    assert remarks(pcan(classes=classes), two_streams()) == []
    stock = {"num_classes": classes, "in_channels": list(CHANNELS), "average_clips": "prob"}
    parts = {"loss_components": ["rgb", "pose"], "loss_weights": [1.0, 1.0]}
    assert remarks(MODELS.build({"type": "RGBPoseHead", **stock, **parts}), two_streams()) == []


class OwnHead(nn.Module):
    """A head of no known family: weights without a layer, scores only by `predict`."""

    num_classes = 12

    def __init__(self, shift):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 64))
        self.shift = shift

    def loss(self, feats, data_samples):
        labels = torch.cat([one.gt_label for one in data_samples])
        scores = feats.mean(dim=(2, 3, 4)) @ self.weight.T
        return {"loss": functional.cross_entropy(scores, (labels + self.shift) % 12)}

    def predict(self, feats, data_samples):
        scores = (feats.mean(dim=(2, 3, 4)) @ self.weight.T).softmax(dim=1)
        for sample, score in zip(data_samples, scores, strict=True):
            sample.set_pred_score(score)
        return data_samples


@pytest.mark.parametrize(("shift", "words"), [(0, ""), (1, "label + 1"), (-1, "label - 1")])
def test_a_head_without_layers_is_read_by_its_predictions(shift, words):
    torch.manual_seed(3)
    found = remarks(OwnHead(shift), VOLUME)
    assert [words in one for one in found] == [True] * bool(shift)


class Mute(OwnHead):
    def loss(self, feats, data_samples):
        raise RuntimeError("needs a GPU")


def test_a_head_that_cannot_be_tried_says_nothing():
    assert remarks(Mute(0), VOLUME) == []
    assert label_remarks(nn.Linear(1, 1), {}) == []
