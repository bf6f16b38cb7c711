"""The name map and the matched share, on synthetic files with the public names and shapes."""

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from pipeline.train.model import PCANBackbone, PCANHead

from pipeline.train.weights import classifier_mismatch, compare, kind_of, rename

K, KC = 52, 7
PARENTS = [0] * 5 + [1] * 6 + [2] * 13 + [3] * 8 + [4] * 6 + [5] * 10 + [6] * 4


class Model(torch.nn.Module):
    def __init__(self, classes=K, **backbone):
        super().__init__()
        self.backbone = PCANBackbone(**backbone)
        self.cls_head = PCANHead(classes, [2048, 512], (PARENTS + [6] * 60)[:classes])


def public_layers():
    """Names and shapes of a public file's own layers, written out from its description."""
    shapes = {}
    for n, rgb, pose, width in ((2, 512, 128, 128), (3, 1024, 256, 256)):
        block = f"backbone.featuredifference{n}"
        shapes[f"{block}.conv1"] = (width, rgb, 1, 1, 1), width
        shapes[f"{block}.conv2"] = (width, pose, 4, 1, 1), width
        shapes[f"{block}.conv4"] = (rgb, width, 1, 1, 1), rgb
        shapes[f"{block}.conv5"] = (width, pose, 4, 1, 1), pose
        for stream in ("rgb", "skt"):
            for part in ("q_proj", "k_proj", "v_proj", "fc"):
                shapes[f"{block}.{stream}_cross_attn.{part}"] = (width, width), width
    for stream, channels in (("rgb", 2048), ("pose", 512)):
        shapes[f"cls_head.fc_{stream}"] = (K, channels), K
        shapes[f"cls_head.fc_{stream}_coarse"] = (KC, channels), KC
        shapes[f"cls_head.fr_{stream}.spatio_cl_net.cl_fc"] = (256, channels), 256
        shapes[f"cls_head.fr_coarse_{stream}.spatio_cl_net.cl_fc"] = (128, channels), 128
    return shapes


@pytest.fixture(scope="module")
def model():
    return Model()


@pytest.fixture(scope="module")
def public(model):
    state = {
        name: torch.randn(value.shape)
        for name, value in model.state_dict().items()
        if name.startswith(("backbone.rgb_path.", "backbone.pose_path."))
    }
    for name, (weight, bias) in public_layers().items():
        state[name + ".weight"], state[name + ".bias"] = torch.randn(weight), torch.randn(bias)
    for stream in ("rgb", "pose"):
        state[f"cls_head.fr_{stream}.spatio_cl_net.avg_f"] = torch.randn(256, K)
    return state


def test_every_tensor_of_a_public_file_finds_its_place(model, public):
    report = compare(public, model.state_dict())
    assert report["kind"] == "pcan-public"
    assert report["matched_share"] == 1.0
    assert (report["missing"], report["unexpected"], report["mismatched"]) == ([], [], [])
    coarse = [f"cls_head.prototypes_{stream}_coarse.prototypes" for stream in ("pose", "rgb")]
    assert sorted(report["fresh"]) == coarse


def test_the_map_is_one_to_one_and_each_layer_goes_to_its_role(model, public):
    renamed = rename(public, model.state_dict())
    assert len(renamed) == len(public)
    pairs = {
        "backbone.featuredifference2.conv5.weight": "backbone.cross2.pose_out.weight",
        "backbone.featuredifference3.conv4.bias": "backbone.cross3.rgb_out.bias",
        "backbone.featuredifference3.skt_cross_attn.fc.weight":
            "backbone.cross3.pose_attention.out.weight",
        "backbone.featuredifference2.rgb_cross_attn.k_proj.bias":
            "backbone.cross2.rgb_attention.key.bias",
        "cls_head.fr_coarse_pose.spatio_cl_net.cl_fc.weight":
            "cls_head.prototypes_pose_coarse.project.weight",
        "cls_head.fc_rgb_coarse.weight": "cls_head.fc_rgb_coarse.weight",
    }  # fmt: skip
    for theirs, ours in pairs.items():
        assert torch.equal(renamed[ours], public[theirs])
    theirs = public["cls_head.fr_pose.spatio_cl_net.avg_f"]
    assert torch.equal(renamed["cls_head.prototypes_pose.prototypes"], theirs.t())


def test_a_plain_file_is_measured_by_its_own_parts(model, public):
    plain = {
        name: value
        for name, value in public.items()
        if not name.startswith(("backbone.featuredifference", "cls_head.fr_"))
        and "_coarse" not in name
    }
    report = compare(plain, model.state_dict())
    assert (report["kind"], report["matched_share"]) == ("rgbpose", 1.0)
    assert any(name.startswith("backbone.cross2.") for name in report["fresh"])
    backbone = {name: value for name, value in plain.items() if name.startswith("backbone.")}
    assert compare(backbone, model.state_dict())["kind"] == "rgbpose-backbone"
    assert compare(backbone, model.state_dict())["matched_share"] == 1.0


def test_our_own_file_matches_itself(model):
    report = compare(model.state_dict(), model.state_dict())
    assert (report["kind"], report["matched_share"], report["fresh"]) == ("pcan", 1.0, [])


def test_another_model_matches_nothing(model):
    report = compare({"conv1.weight": torch.ones(64, 3, 7, 7)}, model.state_dict())
    assert (report["kind"], report["matched_share"]) == ("other", 0.0)
    assert report["unexpected"] == ["conv1.weight"]


def test_a_share_is_of_numbers_not_of_names(model, public):
    """Half of the names of a network can hold a hundredth of its weights."""
    torn = {name: value for name, value in public.items() if "rgb_path.layer4" not in name}
    report = compare(torn, model.state_dict())
    total = sum(value.numel() for value in model.state_dict().values())
    lost = sum(public[name].numel() for name in public if name not in torn)
    assert report["matched_share"] == pytest.approx(1 - lost / total, abs=0.003)
    assert report["missing"] and all("rgb_path.layer4" in name for name in report["missing"])


def test_another_number_of_classes_is_named(public):
    report = compare(public, Model(classes=60).state_dict())
    names = {entry["name"] for entry in report["mismatched"]}
    assert {"cls_head.fc_rgb.weight", "cls_head.prototypes_rgb.prototypes"} <= names
    assert classifier_mismatch(report) == (
        "cls_head.fc_rgb has 52 classes in the file and 60 in the model"
    )


def test_a_users_own_model_keeps_the_public_names(public):
    assert set(rename(public, public)) == set(public)
    assert kind_of(public) == "pcan-public"
