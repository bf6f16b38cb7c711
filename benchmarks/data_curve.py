"""The course of a training on packs beside one on videos, from the same seed, on the drawn demo.

    python benchmarks/data_curve.py SEED [SEED ...] [--clips 20] [--epochs 8] [--out FILE]

Trains configs/pcan_demo.py twice a seed in one process: by the stock chain from the videos, and
from packs (profile fine). Prints loss and fused top-1 of each epoch, and the mean distance between
the two courses of a seed beside that between courses of different seeds, which is the noise.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import warnings
from pathlib import Path

import data_top1

METRIC = "acc/RGBPose_1:1_top1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--clips", type=int, default=20, help="of each of the 8 actions")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, help="seeds already in it are kept")
    options = parser.parse_args()
    known = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    courses = known.get("courses", {})
    with tempfile.TemporaryDirectory() as work:
        make(Path(work), options.clips)
        for seed in options.seeds:
            courses[str(seed)] = {
                name: course(Path(work), name == "videos", seed, options.epochs)
                for name in ("videos", "packs")
            }
    record = {"clips": 4 * options.clips, "apart": apart(courses), "courses": courses}
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def make(work: Path, clips: int) -> None:
    warnings.simplefilter("ignore")
    from pipeline.data.demo import make_demo
    from pipeline.data.prepare import plan, prepare
    from pipeline.data.sources import of_files

    make_demo(work / "demo", clips)
    sources = of_files(work / "demo" / "ann.pkl", work / "demo" / "videos", "train", "val")
    prepare(plan(work / "store", sources, "fine"), workers=1, max_bad=0)


def course(work: Path, stock: bool, seed: int, epochs: int) -> dict[str, list[float]]:
    """Return mean loss and top-1 of each epoch of one training."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    reported: dict[str, list[float]] = {"loss": [], "top1": []}

    class Listener(Hook):
        def before_train_epoch(self, runner):
            self.losses = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.losses.append(float(outputs["loss"]))

        def after_val_epoch(self, runner, metrics=None):
            reported["loss"].append(round(statistics.mean(self.losses), 4))
            reported["top1"].append(round(metrics[METRIC], 4))

    config = data_top1.config_of(work, stock, epochs)
    config.randomness, config.train_cfg.val_interval = {"seed": seed}, 1
    config.experiment_name = f"{'videos' if stock else 'packs'}{seed}"
    runner = Runner.from_cfg(config)
    runner.register_hook(Listener())
    runner.train()
    return reported


def apart(courses: dict) -> dict:
    """Return mean distances between courses: same seed by both sources, and between seeds."""
    found = {}
    for value in ("loss", "top1"):
        same = [distance(one["videos"][value], one["packs"][value]) for one in courses.values()]
        other = [
            distance(one["videos"][value], two["videos"][value])
            for one, two in itertools.combinations(courses.values(), 2)
        ]
        found[value] = {
            "same_seed_videos_and_packs": round(statistics.mean(same), 4),
            "different_seeds_videos": round(statistics.mean(other), 4) if other else None,
        }
    return found


def distance(one: list[float], other: list[float]) -> float:
    return statistics.mean(abs(a - b) for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
