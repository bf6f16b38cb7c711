"""Joint heatmaps: `GeneratePoseTarget` against ours, on the same samples at 224 px.

    python benchmarks/data_heatmaps.py --ann ANN --videos DIR --split NAME [--out FILE]

Median CPU milliseconds a sample (32 frames, 17 joints, all persons of the clip), and the largest
difference of a value: in the loader (`PoseHeatmaps`) and drawn from shipped joints as on a device,
here on one CPU core. Once in turn, each sample in fresh memory (6.8 MB), as in a chain; and alone,
the same sample again and again.
"""

import argparse
import json
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import data_chain
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ann", type=Path, required=True)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--size", type=int, default=data_chain.COMPARE)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = measure(options)
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict:
    warnings.simplefilter("ignore")
    import torch
    from mmaction.registry import DATASETS, TRANSFORMS
    from mmaction.utils import register_all_modules

    from pipeline.train.transforms import PoseHeatmaps, ShipJoints
    from pipeline.train.transforms.joints import draw_joints

    register_all_modules()
    torch.set_num_threads(1)
    config = data_chain.stock_config(options, options.videos)
    data = DATASETS.build(config.train_dataloader.dataset)
    before = [s for s in data.pipeline.transforms if type(s).__name__ != "MMDecode"][:6]
    drawn = dict(sigma=0.7, use_score=True, scaling=0.25)
    stock = TRANSFORMS.build(dict(type="GeneratePoseTarget", **drawn))
    ours, ship = PoseHeatmaps(**drawn), ShipJoints(scaling=0.25)
    side = int(options.size * 0.25 + 0.5)

    def on_device(sample: dict) -> np.ndarray:
        joints = torch.from_numpy(ship(sample)["joints"])[None]
        maps = draw_joints(joints, (side, side), 0.7)  # (1, 1, V, T, H, W)
        return maps[0, 0].transpose(0, 1).numpy()

    def in_stock(sample: dict) -> np.ndarray:
        return stock(sample)["heatmap_imgs"]

    def in_loader(sample: dict) -> np.ndarray:
        return ours(sample)["heatmap_imgs"]

    # In pairs: the dense maps of the device would drive the others' memory out of the caches.
    record = {}
    for name, draw in (("in the loader", in_loader), ("from shipped joints", on_device)):
        pair, apart = ([], []), 0.0
        for number in range(-2, options.samples):
            maps = []
            for times, each in zip(pair, (in_stock, draw), strict=True):
                sample = posed(data, before, number)
                start = time.process_time()
                maps.append(each(sample))
                times.append(1e3 * (time.process_time() - start))
            apart = max(apart, float(np.abs(maps[0] - maps[1]).max()))
        theirs, mine = (statistics.median(times[2:]) for times in pair)  # two to warm up
        alone = repeated(draw, posed(data, before, 0), options.samples)
        record[name] = {
            "GeneratePoseTarget_ms": round(theirs, 2),
            "ours_ms": round(mine, 3),
            "times_faster": round(theirs / mine, 1),
            "largest_difference": apart,
            "alone_ms": round(alone, 3),
            "times_faster_alone": round(
                repeated(in_stock, posed(data, before, 0), options.samples) / alone, 1
            ),
        }
    return record


def repeated(draw: Callable[[dict], np.ndarray], sample: dict, count: int) -> float:
    """Return the median milliseconds of drawing one sample again and again, in warm memory."""
    times = []
    for _ in range(count + 2):
        copied = {**sample, "keypoint": sample["keypoint"].copy()}
        start = time.process_time()
        draw(copied)
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times[2:])


def posed(data, steps: list, number: int) -> dict:
    """Return a sample as it reaches the heatmaps; its pictures are black: nothing sees them."""
    np.random.seed(number + 2), random.seed(number + 2)
    sample = data.get_data_info((number + 2) % len(data))
    sample = steps[0](sample)
    inds = sample["Pose_inds"]
    height, width = sample["img_shape"]
    sample["imgs"] = [np.zeros((height, width, 3), np.uint8)] * 8
    sample["keypoint"] = sample["keypoint"][:, inds].astype(np.float32)
    sample["keypoint_score"] = sample["keypoint_score"][:, inds].astype(np.float32)
    for step in steps[1:]:
        sample = step(sample)
    return {**sample, "num_clips": 1}


if __name__ == "__main__":
    main()
