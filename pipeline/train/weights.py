"""What kind of model a checkpoint holds, and how its names fit those of a model here.

Pure functions of names and tensors. The table below is the whole translation from the
public PCAN implementations' names; every other name is MMAction2's own.
"""

from typing import Any, Dict, List, Mapping

from torch import Tensor

from pipeline.shared.counted import counted

PCAN = "pcan"
PUBLIC = "pcan-public"
RGBPOSE = "rgbpose"
BACKBONE = "rgbpose-backbone"
OTHER = "other"

KINDS = {
    PCAN: "PCAN as trained by pcan",
    PUBLIC: "PCAN with the names of its public implementations",
    RGBPOSE: "RGBPoseConv3D with its classifiers, without PCAN's parts",
    BACKBONE: "RGBPoseConv3D's backbone alone",
    OTHER: "neither PCAN nor RGBPoseConv3D",
}

_BLOCK = {
    "conv1": "rgb_in",
    "conv2": "pose_in",
    "conv4": "rgb_out",
    "conv5": "pose_out",
    "rgb_cross_attn.q_proj": "rgb_attention.query",
    "rgb_cross_attn.k_proj": "rgb_attention.key",
    "rgb_cross_attn.v_proj": "rgb_attention.value",
    "rgb_cross_attn.fc": "rgb_attention.out",
    "skt_cross_attn.q_proj": "pose_attention.query",
    "skt_cross_attn.k_proj": "pose_attention.key",
    "skt_cross_attn.v_proj": "pose_attention.value",
    "skt_cross_attn.fc": "pose_attention.out",
}

#: Layers (each with weight and bias) of the public files, and ours.
LAYERS = {
    **{
        f"backbone.featuredifference{n}.{theirs}": f"backbone.cross{n}.{ours}"
        for n in (2, 3)
        for theirs, ours in _BLOCK.items()
    },
    "cls_head.fr_rgb.spatio_cl_net.cl_fc": "cls_head.prototypes_rgb.project",
    "cls_head.fr_pose.spatio_cl_net.cl_fc": "cls_head.prototypes_pose.project",
    "cls_head.fr_coarse_rgb.spatio_cl_net.cl_fc": "cls_head.prototypes_rgb_coarse.project",
    "cls_head.fr_coarse_pose.spatio_cl_net.cl_fc": "cls_head.prototypes_pose_coarse.project",
}

#: Prototypes, (h, K) in the public files and (K, h) here.
TRANSPOSED = {
    "cls_head.fr_rgb.spatio_cl_net.avg_f": "cls_head.prototypes_rgb.prototypes",
    "cls_head.fr_pose.spatio_cl_net.avg_f": "cls_head.prototypes_pose.prototypes",
}

_CLASSIFIERS = ("cls_head.fc_rgb.weight", "cls_head.fc_pose.weight")
_OURS = ("backbone.cross2.", "backbone.cross3.", "cls_head.prototypes_")
_THEIRS = ("backbone.featuredifference", "cls_head.fr_")


def kind_of(names: Mapping[str, Any]) -> str:
    """Return what kind of model a state dict was made by, judged by its names."""
    if any(name.startswith(_OURS) for name in names):
        return PCAN
    if any(name.startswith(_THEIRS) for name in names):
        return PUBLIC
    paths = ("backbone.rgb_path.", "backbone.pose_path.")
    if all(any(name.startswith(path) for name in names) for path in paths):
        return RGBPOSE if any(name in names for name in _CLASSIFIERS) else BACKBONE
    return OTHER


def expected_names(kind: str, model: Mapping[str, Tensor]) -> List[str]:
    """Return the names of `model` that a file of this kind should have."""
    names = [name for name in model if not name.endswith("num_batches_tracked")]
    if kind == PUBLIC:  # its state dict has no coarse prototypes
        return [name for name in names if not name.endswith("_coarse.prototypes")]
    if kind in (RGBPOSE, BACKBONE):
        names = [name for name in names if not name.startswith(_OURS) and "_coarse." not in name]
    if kind == BACKBONE:
        names = [name for name in names if name.startswith("backbone.")]
    return names


def rename(tensors: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Return the tensors under the names of `model`, where the table knows a better one.

    A model that itself uses the public names (a user's own checkout) keeps them.
    """
    renamed = {}
    for name, value in tensors.items():
        layer, _, last = name.rpartition(".")
        target = f"{LAYERS[layer]}.{last}" if layer in LAYERS else TRANSPOSED.get(name)
        if name in model or target is None or target not in model:
            renamed[name] = value
        else:
            renamed[target] = value.t() if name in TRANSPOSED and value.dim() == 2 else value
    return renamed


def compare(tensors: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Dict[str, Any]:
    """Compare a file's tensors, under their own names, with a model's state.

    Returns:
        kind; matched: names that fit; expected: how many names the kind should have;
        matched_share: of the numbers in those names; missing: expected names that the file
        lacks; fresh: other names of the model that it lacks; unexpected: the file's names
        that the model lacks; mismatched: name and both shapes.
    """
    kind, found = kind_of(tensors), rename(tensors, model)
    fits = {name: name in found and found[name].shape == model[name].shape for name in model}
    expected = expected_names(kind, model)
    numbers = sum(model[name].numel() for name in expected)
    fitting = sum(model[name].numel() for name in expected if fits[name])
    due = set(expected)
    absent = [name for name in model if name not in found]
    return {
        "kind": kind,
        "matched": [name for name in model if fits[name]],
        "expected": len(expected),
        "matched_share": fitting / numbers if numbers else 0.0,
        "missing": [name for name in absent if name in due],
        "fresh": [name for name in absent if name not in due],
        "unexpected": [name for name in found if name not in model],
        "mismatched": [
            {"name": name, "file": list(found[name].shape), "model": list(model[name].shape)}
            for name in model
            if name in found and not fits[name]
        ],
    }


def classifier_mismatch(report: Mapping[str, Any]) -> str:
    """Return which classifier has another number of classes than the model's; empty if none."""
    for entry in report["mismatched"]:
        if entry["name"] in _CLASSIFIERS:
            layer = entry["name"].rpartition(".")[0]
            return (
                f"{layer} has {counted(entry['file'][0], 'class', 'classes')} in the file "
                f"and {entry['model'][0]} in the model"
            )
    return ""
