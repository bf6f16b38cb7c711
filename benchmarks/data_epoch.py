"""Data time in a real two-process training on UTD-MHAD at 112 px: videos against packs.

    python benchmarks/data_epoch.py DATA [--epochs 3] [--seeds 1] [--out FILE]

DATA is the folder utd_mhad_demo8. Trains configs/utd_mhad8.py with its pictures at 112 px, by the
stock chain (`MMDecode`, `GeneratePoseTarget`) and by a prepared store, in turn, and prints for
each epoch its seconds, the share spent waiting for samples, and the fused top-1.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METRIC = "acc/RGBPose_1:1_top1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rank-job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_job:
        train(json.loads(options.rank_job))
        return
    with tempfile.TemporaryDirectory() as work:
        prepare(options.data, Path(work) / "store")
        runs = [
            run(options, Path(work), name, seed)
            for seed in range(options.seeds)
            for name in ("videos", "packs")
        ]
    print(json.dumps(runs, indent=1))
    if options.out:
        options.out.write_text(json.dumps(runs, indent=1) + "\n")


def prepare(data: Path, store: Path) -> None:
    from pipeline.data.prepare import plan, prepare
    from pipeline.data.sources import of_files

    sources = of_files(data / "ann_coco17.pkl", data / "videos", "dev_train", "dev_val")
    prepare(plan(store, sources, "fine"), workers=2, max_bad=0)


def run(options: argparse.Namespace, work: Path, name: str, seed: int) -> dict:
    """Train once in two processes; return its epochs."""
    job = {
        "data": str(options.data.resolve()),
        "store": str(work / "store") if name == "packs" else None,
        "epochs": options.epochs,
        "seed": seed,
        "dir": str(work / f"{name}{seed}"),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [__file__, ".", "--rank-job", json.dumps(job)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    course = json.loads((Path(job["dir"]) / "course.json").read_text())
    return {"samples from": name, "seed": seed, "epochs": course}


def config_of(job: dict):
    """Return the config at 112 px, stock or switched to the store."""
    from mmengine.config import Config

    from pipeline.train.transforms import use_store

    config = Config.fromfile(ROOT / "configs" / "utd_mhad8.py")
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = job["data"]
        for step in loader.dataset.pipeline:
            if step.type == "Resize":
                step.scale = tuple(round(side * 112 / 64) for side in step.scale)
            if step.type == "PoseHeatmaps":
                step.type = "GeneratePoseTarget"
    if job["store"]:
        use_store(config, job["store"])
    config.train_cfg.max_epochs = job["epochs"]
    config.merge_from_dict(
        {
            "work_dir": job["dir"],
            "randomness": {"seed": job["seed"]},
            "launcher": "pytorch",
            "log_level": "ERROR",
            "env_cfg": {"dist_cfg": {"backend": "gloo"}},
            "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None},
            "default_hooks": {"checkpoint": None},
        }
    )
    return config


def train(job: dict) -> None:
    """Be one rank."""
    warnings.simplefilter("ignore")
    from pipeline.train.compat import prepare_mmaction

    prepare_mmaction()
    import cv2
    import torch
    from mmaction.utils import register_all_modules
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.distributed.init_process_group("gloo")
    register_all_modules()
    course: list[dict] = []

    class Clock(Hook):
        priority = "VERY_HIGH"

        def before_train_epoch(self, runner):
            self.start = self.mark = time.perf_counter()
            self.data = 0.0

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.data += time.perf_counter() - self.mark

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.mark = time.perf_counter()

        def after_train_epoch(self, runner):
            self.train = time.perf_counter() - self.start

        def after_val_epoch(self, runner, metrics=None):
            whole = time.perf_counter() - self.start
            course.append(
                {
                    "train_s": round(self.train, 2),
                    "waiting_s": round(self.data, 2),
                    "waiting_share": round(self.data / self.train, 3),
                    "with_validation_s": round(whole, 2),
                    "top1": round(metrics[METRIC], 4),
                }
            )

    runner = Runner.from_cfg(copy.deepcopy(config_of(job)))
    runner.register_hook(Clock())
    runner.train()
    if runner.rank == 0:
        (Path(job["dir"]) / "course.json").write_text(json.dumps(course))


if __name__ == "__main__":
    main()
