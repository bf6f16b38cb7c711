"""How much PCAN's head, and its blocks, add to a training step of the demo's network.

    python benchmarks/head_step.py --batch 6 --size 48

Stock RGBPoseConv3D with stock RGBPoseHead, the same backbone with PCANHead, and the whole
PCAN take turns on the same batch in one process, so that a busy machine slows all alike.
A step is forward, MMEngine's sum of losses, backward and SGD. Prints the median time of each
and the median of the ratios of neighbouring steps.
"""

import argparse
import copy
import json
import logging
import statistics
import time
import warnings

import torch

warnings.simplefilter("ignore")
logging.disable(logging.INFO)  # MMEngine would list every weight it initialises

from mmaction.structures import ActionDataSample  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

import pipeline.train.model  # noqa: E402, F401

init_default_scope("mmaction")

from mmaction.registry import MODELS  # noqa: E402

CLASSES, PARENTS = 8, [0, 0, 1, 1, 1, 2, 2, 2]


def backbone(base: int, blocks: bool) -> dict:
    """Return the demo's cut-down backbone of the given RGB width."""
    shared = dict(lateral=True, fusion_kernel=7, conv1_kernel=(1, 7, 7), with_pool2=False)
    rgb = dict(
        num_stages=4,
        stage_blocks=(1, 1, 1, 1),
        lateral_infl=1,
        lateral_activate=[0, 0, 1, 1],
        base_channels=base,
        inflate=(0, 0, 1, 1),
        **shared,
    )
    pose = dict(
        num_stages=3,
        stage_blocks=(1, 1, 1),
        lateral_inv=True,
        lateral_infl=16,
        lateral_activate=(0, 1, 1),
        in_channels=17,
        base_channels=base // 2,
        out_indices=(2,),
        conv1_stride_s=1,
        conv1_stride_t=1,
        pool1_stride_s=1,
        pool1_stride_t=1,
        inflate=(0, 1, 1),
        spatial_strides=(2, 2, 2),
        temporal_strides=(1, 1, 1),
        dilations=(1, 1, 1),
        **shared,
    )
    common = dict(speed_ratio=4, channel_ratio=4, rgb_pathway=rgb, pose_pathway=pose)
    if not blocks:
        return dict(type="RGBPoseConv3D", **common)
    return dict(type="PCANBackbone", cross_channels=(2 * base, 4 * base), cross_heads=4, **common)


def model(base: int, pcan_head: bool, blocks: bool) -> torch.nn.Module:
    """Build a recognizer with either head on either backbone."""
    head = dict(num_classes=CLASSES, in_channels=[32 * base, 8 * base], dropout=0.2)
    if pcan_head:
        head.update(type="PCANHead", fine_to_coarse=PARENTS, prototype_channels=[32, 16])
        head.update(loss_weights=[1.0, 2.0, 0.5, 0.8])
    else:
        head.update(type="RGBPoseHead", loss_weights=[1.0, 2.0])
    torch.manual_seed(0)
    made = MODELS.build(
        dict(type="MMRecognizer3D", backbone=backbone(base, blocks), cls_head=head)
    )
    made.init_weights()
    return made.train()


def step(made: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: tuple) -> float:
    """Take one training step; return its seconds."""
    inputs, samples = batch
    begin = time.perf_counter()
    losses = made(dict(inputs), samples, mode="loss")
    loss, _ = made.parse_losses(losses)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--size", type=int, default=48, help="pixels of a picture")
    parser.add_argument("--base", type=int, default=8, help="base width of the RGB pathway")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    small = options.size // 4
    batch = (
        {
            "imgs": torch.randn(options.batch, 1, 3, 8, options.size, options.size),
            "heatmap_imgs": torch.rand(options.batch, 1, 17, 32, small, small),
        },
        [ActionDataSample().set_gt_label(i % CLASSES) for i in range(options.batch)],
    )
    kinds = {"stock": (False, False), "pcan_head": (True, False), "pcan": (True, True)}
    made = {name: model(options.base, *kind) for name, kind in kinds.items()}
    optimizers = {
        name: torch.optim.SGD(one.parameters(), lr=0.01, momentum=0.9)
        for name, one in made.items()
    }
    times: dict[str, list[float]] = {name: [] for name in made}
    for number in range(options.rounds + 5):
        for name in made:
            seconds = step(made[name], optimizers[name], copy.copy(batch))
            if number >= 5:
                times[name].append(seconds)
    stock = times["stock"]
    print(
        json.dumps(
            {
                "batch": options.batch,
                "size": options.size,
                "base_channels": options.base,
                "ms": {name: round(1e3 * statistics.median(t), 2) for name, t in times.items()},
                "ratio": {
                    name: round(statistics.median(a / b for a, b in zip(t, stock, strict=True)), 3)
                    for name, t in times.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main()
