"""The sections of `benchmarks/gpu.py` about data: heatmaps on the device, loader processes."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gpu_rows import Section, carry_out
from gpu_steps import BATCH, SIZE, SMALL_BATCH, SMALL_SIZE, Trainee, prepare

LOADER_S = 16.0


def heatmaps(section: Section) -> None:
    """Compare maps drawn on the device with those a loader makes and sends."""
    prepare()
    from pipeline.train.transforms.heatmaps import draw_joints as in_loader
    from pipeline.train.transforms.joints import draw_joints as on_device

    count, side = (4, 12) if section.small else (BATCH, 56)
    rng = np.random.default_rng(0)
    joints = rng.uniform(0, side, (count, 1, 2, 32, 17, 3)).astype(np.float32)
    joints[..., 2] = rng.uniform(0.3, 1, joints.shape[:-1])
    dense = [in_loader(one[0, ..., :2], one[0, ..., 2], (side, side), 0.7) for one in joints]

    def made() -> None:
        for one in joints:
            in_loader(one[0, ..., :2], one[0, ..., 2], (side, side), 0.7)

    def sent() -> torch.Tensor:
        return torch.from_numpy(np.stack(dense)).to(section.device)

    def drawn() -> torch.Tensor:
        return on_device(torch.from_numpy(joints).to(section.device), (side, side), 0.7)

    times = {f: timed(section, f) / count for f in (made, sent, drawn)}
    section.row("made in a loader, a sample", 1e3 * times[made], "ms of one core")
    section.row("maps copied to the device, a sample", 1e3 * times[sent], "ms")
    section.row(
        "joints copied and drawn there, a sample",
        1e3 * times[drawn],
        "ms",
        times[drawn] / times[made],
        "made in a loader",
    )
    apart = drawn()[:, 0].transpose(1, 2).cpu() - torch.from_numpy(np.stack(dense))
    section.row("largest difference of a value", float(apart.abs().max()))
    section.row(
        "sent, a sample", joints[0].nbytes / 1e3, "kB", joints[0].nbytes / dense[0].nbytes, "maps"
    )


def timed(section: Section, action: Callable[[], Any], rounds: int = 15) -> float:
    """Return the median seconds of an action, the device's work included."""
    times = []
    for _ in range(rounds):
        synchronize(section)
        begun = time.perf_counter()
        action()
        synchronize(section)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[2:])


def synchronize(section: Section) -> None:
    if section.device == "cuda":
        torch.cuda.synchronize()


def loaders(section: Section) -> None:
    """Train from real loader processes; the share of the time in which the step waits for them."""
    prepare()
    options = clips(section)
    store = section.folder / "store"
    pack(options, store)
    import data_chain

    chains = data_chain.configs(options, store)
    count = SMALL_BATCH if section.small else BATCH
    workers = 1 if section.small else max(1, min(16, len(os.sched_getaffinity(0)) - 2))
    section.row("loader processes", workers)
    shares = {}
    for name in ("stock", "packs, joints shipped"):
        waited, samples = trained(section, chains[name], count, workers)
        shares[name] = waited
        ratio = None if name == "stock" else waited / max(shares["stock"], 1e-9)
        section.row(f"{name}: waiting for samples", 100 * waited, "%", ratio, "stock")
        section.row(f"{name}: samples", samples, "/s")


def clips(section: Section) -> SimpleNamespace:
    """Draw clips: the demo's where small, else 540p as data_clips.py draws them."""
    folder = section.folder / "clips"
    options = SimpleNamespace(ann=folder / "ann.pkl", videos=folder / "videos", versus=None)
    if section.small:
        from pipeline.data.demo import make_demo

        make_demo(folder, clips=2)
        options.split, options.size, options.clips = "train", SMALL_SIZE, 8
        return options
    import data_clips

    data_clips.make_small_clips(folder, 8)
    options.split, options.size, options.clips = "all", SIZE, 8
    return options


def pack(options: SimpleNamespace, store: Path) -> None:
    from pipeline.data import prepare as preparing
    from pipeline.data.sources import of_files

    sources = of_files(options.ann, options.videos, options.split, options.split)
    preparing.prepare(preparing.plan(store, sources, "fine"), os.cpu_count() or 1, 0)


def trained(section: Section, config: Any, count: int, workers: int) -> tuple[float, float]:
    """Train for some seconds; return the share of the time spent waiting, and samples a second."""
    from mmaction.registry import DATASETS, MODELS
    from mmengine.dataset import pseudo_collate
    from torch.utils.data import DataLoader

    data = DATASETS.build(config.train_dataloader.dataset)
    preparing = MODELS.build(config.model.data_preprocessor).to(section.device)
    one = Trainee(section, "pcan", ("bf16",))
    warm = 2 * workers + 2
    most = 8 if section.small else 10_000
    order = [number % len(data) for number in range(count * (warm + most))]
    batches = iter(
        DataLoader(data, count, sampler=order, num_workers=workers, collate_fn=pseudo_collate)
    )
    for _ in range(warm):
        advance(one, preparing, next(batches))
    begun, waited, steps = time.perf_counter(), 0.0, 0
    while steps < most and time.perf_counter() - begun < LOADER_S:
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        advance(one, preparing, batch)
        steps += 1
    spent = time.perf_counter() - begun
    return waited / spent, steps * count / spent


def advance(one: Trainee, preparing: torch.nn.Module, batch: dict[str, Any]) -> None:
    """Prepare a batch on the device and take a step with it."""
    ready = preparing(batch, training=True)
    one.step((ready["inputs"], ready["data_samples"]))


if __name__ == "__main__":
    carry_out({"heatmaps": heatmaps, "loaders": loaders})
