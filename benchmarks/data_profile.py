"""Where the CPU time of a sample from packs goes, step by step of its chain.

    python benchmarks/data_profile.py [--samples 200] [--out FILE]

Draws its own clips (540p, 8 of them), packs them, and takes training and validation samples from
the chains that `data_chain.py` compares, one core, one thread, from the same seeds. Prints for
each step its share of the whole (mean of CPU times; other work on the machine changes the times
more than the shares), and the functions with the largest own times by cProfile.
"""

import argparse
import cProfile
import json
import pstats
import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import data_chain
import data_clips
import numpy as np

CLIPS = 8
#: Functions of a sample that are shown, by their own time.
MOST = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips, store = Path(folder) / "clips", Path(folder) / "store"
        data_clips.make_small_clips(clips, CLIPS)
        given = SimpleNamespace(
            ann=clips / "ann.pkl", videos=clips / "videos", split="all", size=data_chain.COMPARE
        )
        given.clips, given.versus = CLIPS, None
        data_chain.prepare(given, store)
        record = measure(given, store, options.samples)
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def measure(given: SimpleNamespace, store: Path, samples: int) -> dict:
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
    for name, config in data_chain.configs(given, store).items():
        for loader in ("train", "val") if name != "stock" else ():
            data = DATASETS.build(config[f"{loader}_dataloader"].dataset)
            record[f"{loader}, {name}"] = {
                "steps": steps(data, samples),
                "functions": functions(data, samples),
            }
    return record


def steps(data, samples: int) -> dict:
    """Return the share of each step, in percent, and the sum in milliseconds."""
    names = ["(annotation)", *(type(one).__name__ for one in data.pipeline.transforms)]
    keys = [f"{number} {name}" for number, name in enumerate(names)]
    spent: dict[str, list[float]] = {key: [] for key in keys}
    for number in range(-2, samples):
        np.random.seed(number + 2), random.seed(number + 2)
        begun = time.process_time()
        sample = data.get_data_info((number + 2) % len(data))
        marks = [begun, time.process_time()]
        for transform in data.pipeline.transforms:
            sample = transform(sample)
            marks.append(time.process_time())
        if number >= 0:
            for key, before, after in zip(keys, marks, marks[1:], strict=False):
                spent[key].append(1e3 * (after - before))
    whole = sum(statistics.mean(times) for times in spent.values())
    shares = {key: round(100 * statistics.mean(t) / whole, 1) for key, t in spent.items()}
    return {"percent": shares, "cpu_ms": round(whole, 2)}


def functions(data, samples: int) -> dict:
    """Return the functions with the largest own times, in percent of all."""
    profile = cProfile.Profile(time.process_time)
    for number in range(samples):
        np.random.seed(number), random.seed(number)
        profile.enable()
        data[number % len(data)]
        profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    largest = sorted(stats.items(), key=lambda item: -item[1][2])[:MOST]
    return {
        f"{Path(file).name}:{line} {name}": round(100 * own / whole, 1)
        for (file, line, name), (_, _, own, _, _) in largest
    }


if __name__ == "__main__":
    main()
