"""CPU time of one training sample: the stock chain against packs, in one interleaved run.

    python benchmarks/data_chain.py --ann ANN --videos DIR --split NAME [--versus DIR] [--out FILE]

Prepares a temporary store, then draws the same samples from the same seeds by every variant in
turn and prints the median CPU time of each, its ratio to stock, the size of a pack and how close
the pictures are. `--versus` names a second folder with the same clips in another size; its stock
training chain is measured in the same run. `benchmarks/data_clips.py` makes clips for both.
"""

import argparse
import copy
import json
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

COMPARE = 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ann", type=Path, required=True)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--versus", type=Path)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--size", type=int, default=COMPARE, help="of the pictures, in pixels")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        record = {"prepare": prepare(options, Path(store)), **measure(options, Path(store))}
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def prepare(options: argparse.Namespace, store: Path) -> dict:
    """Make the packs; return what that took, a process's start apart."""
    from pipeline.data import prepare as preparing
    from pipeline.data.pool import run
    from pipeline.data.sources import of_files

    start = cpu_of_children(lambda: list(run(load_libraries, [0], 1, 60.0)))
    sources = of_files(options.ann, options.videos, options.split, options.split)
    record = {"start_cpu_s_a_process": round(start, 3)}
    for source in sources:  # a clip is for training or for validation, hardly ever for both
        todo = preparing.plan(store, [source], "fine", options.clips)
        spent = cpu_of_children(lambda todo=todo: preparing.prepare(todo, 1, 0)) - start
        packs = [p.stat().st_size for p in (store / source.kind).rglob("*.pack")]
        record[f"{source.kind}_cpu_s_a_clip"] = round(spent / len(todo.tasks), 3)
        record[f"{source.kind}_mb_a_pack"] = round(statistics.mean(packs) / 1e6, 3)
    preparing.prepare(preparing.plan(store, sources, "fine", options.clips), 1, 0)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {**record, "memory_mb_a_process": round(most / 1024)}


def cpu_of_children(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the processes that `work` starts and ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def load_libraries(task: int) -> None:
    """Import what a process of `prepare` needs before its first clip."""
    import cv2  # noqa: F401
    import decord  # noqa: F401
    from PIL import Image  # noqa: F401

    import pipeline.data.make  # noqa: F401


def configs(options: argparse.Namespace, store: Path) -> dict:
    """Return the chains to compare, by name."""
    from mmengine.config import Config

    from pipeline.train.transforms import use_store

    found = {"stock": stock_config(options, options.videos)}
    if options.versus:
        found["stock, versus"] = stock_config(options, options.versus)
    for name, ship in (("packs, maps in the loader", False), ("packs, joints shipped", True)):
        config = Config(copy.deepcopy(found["stock"].to_dict()))
        use_store(config, str(store), ship_joints=ship)
        found[name] = config
    return found


def stock_config(options: argparse.Namespace, videos: Path):
    """Return the stock RGBPoseConv3D chains on these clips."""
    from mmengine.config import Config

    maps = dict(type="GeneratePoseTarget", sigma=0.7, use_score=True, scaling=0.25)
    cut = dict(type="MMCompact", hw_ratio=1.0, allow_imgpad=True)
    clip_len, size = dict(RGB=8, Pose=32), (options.size, options.size)
    larger = (round(options.size * 8 / 7),) * 2
    finish = [
        maps,
        dict(type="FormatShape", input_format="NCTHW"),
        dict(type="PackActionInputs", collect_keys=("imgs", "heatmap_imgs")),
    ]
    train = [
        dict(type="MMUniformSampleFrames", clip_len=clip_len, num_clips=1),
        dict(type="MMDecode"),
        cut,
        dict(type="Resize", scale=larger, keep_ratio=False),
        dict(type="RandomResizedCrop", area_range=(0.56, 1.0)),
        dict(type="Resize", scale=size, keep_ratio=False),
        dict(type="Flip", left_kp=[*range(1, 17, 2)], right_kp=[*range(2, 17, 2)]),
        *finish,
    ]
    val = [
        dict(train[0], test_mode=True),
        *train[1:3],
        dict(type="Resize", scale=larger, keep_ratio=False),
        *finish,
    ]
    prefix = dict(video=str(videos))
    data = dict(
        type="PoseDataset", ann_file=str(options.ann), split=options.split, data_prefix=prefix
    )
    preprocessors = dict(
        imgs=dict(type="ActionDataPreprocessor", format_shape="NCTHW"),
        heatmap_imgs=dict(type="ActionDataPreprocessor"),
    )
    preprocessor = dict(type="MultiModalDataPreprocessor", preprocessors=preprocessors)
    return Config(
        dict(
            model=dict(data_preprocessor=preprocessor),
            train_dataloader=dict(dataset=dict(data, pipeline=train)),
            val_dataloader=dict(dataset=dict(data, pipeline=val, test_mode=True)),
        )
    )


def measure(options: argparse.Namespace, store: Path) -> dict:
    """Draw the samples by every chain in turn."""
    warnings.simplefilter("ignore")
    import cv2
    import torch
    from mmaction.registry import DATASETS
    from mmaction.utils import register_all_modules

    from pipeline.train.transforms import use_store  # noqa: F401  (registers, mends mmaction)

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    register_all_modules()
    record: dict = {"cpus": sys.version.split()[0] + ", one core, one thread"}
    for loader in ("train", "val"):
        data = {
            name: DATASETS.build(config[f"{loader}_dataloader"].dataset)
            for name, config in configs(options, store).items()
            if loader == "train" or name != "stock, versus"
        }
        record[loader] = compare(data, options, loader)
    return record


def compare(data: dict, options: argparse.Namespace, loader: str) -> dict:
    spent: dict = {name: [] for name in data}
    closeness, same = [], True
    count = min(options.clips, len(data["stock"]))
    for number in range(-2, options.samples):  # two rounds to warm up
        pictures = {}
        for name, chain in data.items():
            np.random.seed(number + 2), random.seed(number + 2)
            start = time.process_time()
            sample = chain[number % count]
            if number >= 0:
                spent[name].append(1e3 * (time.process_time() - start))
            pictures[name] = sample["inputs"]["imgs"]
        ours = pictures["packs, joints shipped"].double()
        error = (ours - pictures["stock"].double()).square().mean().item()
        same &= error == 0
        closeness.append(10 * np.log10(255**2 / error) if error else np.inf)
    result = {name: {"cpu_ms": round(statistics.median(ms), 2)} for name, ms in spent.items()}
    for name, one in result.items():
        for base in ("stock", "stock, versus"):
            if base in result and name.startswith("packs"):
                one[f"times faster than {base}"] = round(result[base]["cpu_ms"] / one["cpu_ms"], 1)
    fallbacks = data["packs, joints shipped"].pipeline.transforms[1].fallbacks.total
    psnr = [None if np.isinf(c) else round(c, 1) for c in (np.mean(closeness), min(closeness))]
    return {**result, "psnr_mean_min": psnr, "pictures_equal": same, "fallbacks": fallbacks}


if __name__ == "__main__":
    main()
