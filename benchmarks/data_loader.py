"""CPU time of a sample's way through a DataLoader: in its loader process and in the training one.

    python benchmarks/data_loader.py --ann ANN --videos DIR --split NAME [--out FILE]

One loader process, batches of 10 (training) and of 1 and 8 (validation), stock chain against
packs. The training process only takes the batches: what it spends is what loading costs a rank
beside its training.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
import warnings
from pathlib import Path

import data_chain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ann", type=Path, required=True)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--size", type=int, default=data_chain.COMPARE)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.versus = None
    with tempfile.TemporaryDirectory() as store:
        data_chain.prepare(options, Path(store))
        record = measure(options, Path(store))
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def measure(options: argparse.Namespace, store: Path) -> dict:
    warnings.simplefilter("ignore")
    import cv2
    import torch
    from mmaction.registry import DATASETS
    from mmaction.utils import register_all_modules

    from pipeline.train.transforms import use_store  # noqa: F401  (registers, mends mmaction)

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    register_all_modules()
    record = {}
    for loader, batch in (("train", 10), ("val", 1), ("val", 8)):
        for name, config in data_chain.configs(options, store).items():
            data = DATASETS.build(config[f"{loader}_dataloader"].dataset)
            record[f"{loader}, batch {batch}, {name}"] = spent(data, batch, options)
    return record


def spent(data, batch: int, options: argparse.Namespace) -> dict:
    """Return CPU milliseconds a sample in both processes; the first batches are not counted."""
    from mmengine.dataset import pseudo_collate
    from torch.utils.data import DataLoader

    clips = min(len(data), options.clips)
    order = [number % clips for number in range(options.samples + 2 * batch)]
    loader = DataLoader(
        data, batch, sampler=order, num_workers=1, collate_fn=pseudo_collate, drop_last=True
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = iter(loader)
    next(taken), next(taken)
    start = time.process_time()
    batches = sum(1 for _ in taken)
    main = time.process_time() - start
    del taken
    for child in multiprocessing.active_children():
        child.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worker = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "loader_ms": round(1e3 * worker / len(order), 2),
        "training_process_ms": round(1e3 * main / (batches * batch), 2),
    }


if __name__ == "__main__":
    main()
