"""What PCANHead refuses when it is built, what it gives to MMAction2, and its number types."""

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.evaluation import AccMetric
    from mmaction.registry import METRICS, MODELS
    from mmaction.structures import ActionDataSample

    from pipeline.train.keep_predictions import read_clips
    from pipeline.train.model import CoarseAccMetric, PCANHead


def build(**changes):
    settings = dict(
        num_classes=6, in_channels=[8, 4], fine_to_coarse=[0, 0, 0, 1, 1, 1],
        prototype_channels=[4, 3], average_clips="prob", topk=(1, 5),
    )  # fmt: skip
    return PCANHead(**{**settings, **changes})


def features(count, dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(count, 8, 2, 2, 2).to(dtype), torch.randn(count, 4, 8, 2, 2).to(dtype)


def samples(labels):
    return [ActionDataSample().set_gt_label(label) for label in labels]


def total(terms):
    return sum(value for name, value in terms.items() if "loss" in name)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (dict(num_classes=7), "has 6 entries for num_classes 7"),
        (dict(fine_to_coarse=[0, 0, 0, 1, 1, 3]), "uses no coarse class 2 but goes up to 3"),
        (dict(fine_to_coarse=[0, 0, 0, 1, 1, -1]), "holds -1"),
        (dict(fine_to_coarse=[0] * 6), "at least two"),
        (dict(loss_weights=[1, 2]), "PCAN has four"),
        (dict(loss_weights=1.0), "PCAN has four"),
        (dict(loss_weights=[1, 2, -0.5, 0.8]), "holds -0.5"),
        (dict(loss_weights=[1, 2, float("nan"), 0.8]), "holds nan"),
        (dict(in_channels=[8]), "two whole numbers"),
        (dict(gamma=dict(rgb=5.0)), "one for pose"),
        (dict(label_smooth_eps=0.1), "hard labels"),
        (dict(multi_class=True), "one class a sample"),
        (dict(loss_cls=dict(type="BCELossWithLogits")), "plain cross-entropy"),
        (dict(loss_components=["rgb"]), "PCAN's are fixed"),
    ],
)
def test_a_wrong_setting_is_reported_when_the_model_is_built(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**setting)


def test_soft_labels_are_refused():
    soft = [ActionDataSample().set_gt_label(torch.full((6,), 1 / 6)) for _ in range(2)]
    with pytest.raises(ValueError, match="soft labels"):
        build().loss(features(2), soft)


def test_the_names_in_a_config_are_registered():
    assert MODELS.get("PCANHead") is PCANHead
    assert METRICS.get("CoarseAccMetric") is CoarseAccMetric


def test_prototypes_are_buffers_in_the_checkpoint_and_constants_are_not():
    head = build()
    names = set(head.state_dict())
    assert {f"prototypes_{s}.prototypes" for s in ("rgb", "pose", "rgb_coarse")} <= names
    assert "parents" not in names
    assert not any(name.endswith(".prototypes") for name, _ in head.named_parameters())


def test_initial_prototypes_are_the_same_whatever_the_global_seed():
    torch.manual_seed(1)
    first = build()
    torch.manual_seed(2)
    second = build()
    for name in ("prototypes_rgb", "prototypes_pose_coarse"):
        assert torch.equal(getattr(first, name).prototypes, getattr(second, name).prototypes)
    assert not torch.equal(first.prototypes_rgb.prototypes, first.prototypes_pose.prototypes)


def test_two_clips_a_sample_train_on_the_samples_label():
    terms = build().loss(features(4), samples([0, 5]))
    assert torch.isfinite(total(terms))


def test_metrics_report_fused_and_coarse_accuracies():
    head = build().eval()
    with torch.no_grad():
        predicted = head.predict(features(6), samples([0, 1, 2, 3, 4, 5]))
    found = {}
    for metric in (AccMetric(), CoarseAccMetric()):
        metric.process(None, [sample.to_dict() for sample in predicted])
        found.update(metric.evaluate(6))
    assert {"acc/rgb_top1", "acc/pose_top1", "acc/RGBPose_1:1_top1"} <= set(found)
    scores = torch.stack([sample.pred_coarse_score["pose"] for sample in predicted])
    right = (scores.argmax(dim=1) == torch.tensor([0, 0, 0, 1, 1, 1])).float().mean()
    assert found["acc/pose_coarse_top1"] == pytest.approx(right.item())


def test_kept_predictions_have_the_classes_of_each_branch_and_the_coarse_ones():
    head = build().eval()
    with torch.no_grad():
        predicted = head.predict(features(2), samples([0, 5]))
    first, last = read_clips(predicted, "RGBPose_1:1")
    names = {"rgb", "pose", "rgb_coarse", "pose_coarse", "true_coarse"}
    assert set(first.columns) == set(last.columns) == names
    assert (first.columns["true_coarse"], last.columns["true_coarse"]) == (0, 1)


def test_prediction_needs_no_labels():
    head = build().eval()
    with torch.no_grad():
        (sample,) = head.predict(features(1), [ActionDataSample()])
    assert set(sample.pred_score) == {"rgb", "pose"}
    assert "gt_coarse_label" not in sample


def test_ten_clips_a_sample_are_averaged():
    head = build().eval()
    with torch.no_grad():
        found = head.predict(features(20), samples([0, 1]))
    assert found[1].pred_score["rgb"].shape == (6,)
    assert found[1].pred_coarse_score["pose"].shape == (2,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_finite_single_precision_losses(dtype):
    torch.manual_seed(0)
    head = build(dropout=0.0)
    plain = total(build_like(head).loss(features(5), samples([0, 1, 2, 3, 5])))
    with torch.autocast("cpu", dtype=dtype):
        terms = head.loss(features(5, dtype), samples([0, 1, 2, 3, 5]))
    loss = total(terms)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    assert head.prototypes_rgb.prototypes.dtype == torch.float32


def build_like(head):
    twin = build(dropout=0.0)
    twin.load_state_dict(head.state_dict())
    return twin


def test_a_model_in_bfloat16_trains():
    head = build().to(torch.bfloat16)
    loss = total(head.loss(features(5, torch.bfloat16), samples([0, 1, 2, 3, 5])))
    loss.backward()
    assert torch.isfinite(loss)


class Operations(TorchDispatchMode):
    """Note the name of every operation, of the backward pass too."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_a_step_never_waits_for_a_value():
    """These operations bring a number, or a size that depends on numbers, to the host."""
    head, feats, labelled = build(), features(5), samples([0, 1, 2, 3, 5])
    with Operations() as operations:
        total(head.loss(feats, labelled)).backward()
    waiting = {"_local_scalar_dense", "item", "nonzero", "masked_select", "equal", "_unique2"}
    assert not waiting & operations.names
    assert "copy_" in operations.names  # the prototypes' update was seen


def test_same_seed_same_losses():
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        head = build()
        losses = [total(head.loss(features(5), samples([0, 1, 2, 3, 5]))) for _ in range(3)]
        runs.append(torch.stack(losses))
    assert torch.equal(*runs)
