"""Data time in a real two-process training on UTD-MHAD at 112 px: videos against packs.

    python benchmarks/data_epoch.py DATA [--epochs 3] [--seeds 1] [--out FILE]

DATA is the folder utd_mhad_demo8. Trains configs/utd_mhad8.py with its pictures at 112 px, by the
stock chain (`MMDecode`, `GeneratePoseTarget`) and by a prepared store, in turn, from the same
seeds. Prints for each epoch its seconds, those spent waiting for samples and those spent preparing
batches (which is where shipped joints become maps), mean loss and fused top-1; what share of the
gain that loading allows was had; how far the courses are apart beside the spread between seeds;
and whether the weights predict the same on validation packs as on the videos.
"""

import argparse
import copy
import json
import os
import statistics
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
    parser.add_argument("--both-job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_job:
        train(json.loads(options.rank_job))
        return
    if options.both_job:
        print(json.dumps(validate_both(json.loads(options.both_job))))
        return
    with tempfile.TemporaryDirectory() as work:
        prepare(options.data, Path(work) / "store")
        runs: list[dict] = []
        for seed in range(options.seeds):
            runs += [run(options, Path(work), name, seed) for name in ("videos", "packs")]
            record = {**summary(runs), "runs": runs}
            if options.out:  # after each seed: the whole takes a while
                options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def summary(runs: list[dict]) -> dict:
    """Return what the runs say: time gained, and differences beside the spread between seeds.

    The gain that loading allows is the waiting; what drawing maps from shipped joints adds to
    preparing batches is taken off what was gained.
    """
    by = {(one["samples from"], one["seed"]): one["epochs"] for one in runs}
    seeds = sorted({seed for _, seed in by})
    spent = {}
    for name in ("videos", "packs"):
        epochs = [epoch for seed in seeds for epoch in by[name, seed]]
        spent[name] = {
            "waiting_s": round(statistics.median(e["waiting_s"] for e in epochs), 2),
            "preparing_s": round(statistics.median(e["preparing_s"] for e in epochs), 2),
            "waiting_share_of_training": round(
                statistics.median(e["waiting_s"] / e["train_s"] for e in epochs), 3
            ),
        }
    videos, packs = spent["videos"], spent["packs"]
    gained = sum(videos[part] - packs[part] for part in ("waiting_s", "preparing_s"))
    apart = {}
    for value in ("loss", "top1"):
        last = {key: epochs[-1][value] for key, epochs in by.items()}
        between = [abs(last["packs", seed] - last["videos", seed]) for seed in seeds]
        apart[value] = {
            "mean_difference_at_one_seed": round(statistics.mean(between), 4),
            "spread_between_seeds": round(
                max(last["videos", s] for s in seeds) - min(last["videos", s] for s in seeds), 4
            ),
        }
    share = gained / videos["waiting_s"]
    return {"an epoch": spent, "share_of_the_gain": round(share, 3), "last_epoch": apart}


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
    found = {"samples from": name, "seed": seed, "epochs": course}
    if name == "packs":
        command = [sys.executable, __file__, ".", "--both-job", json.dumps(job)]
        done = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, text=True)
        found["validated"] = json.loads(done.stdout.splitlines()[-1])
    return found


def validate_both(job: dict) -> dict:
    """Return how the trained weights do on validation packs and on the videos."""
    warnings.simplefilter("ignore")
    from pipeline.train.compat import prepare_mmaction

    prepare_mmaction()
    import torch
    from mmaction.registry import DATASETS, MODELS
    from mmaction.utils import register_all_modules
    from mmengine.dataset import pseudo_collate

    register_all_modules()
    torch.set_num_threads(1)
    weights = torch.load(Path(job["dir"]) / "weights.pth", weights_only=True)
    scores, labels, pictures = {}, [], {}
    for name, store in (("videos", None), ("packs", job["store"])):
        config = config_of({**job, "store": store})
        model = MODELS.build(config.model).eval()
        model.load_state_dict(weights)
        data = DATASETS.build(config.val_dataloader.dataset)
        samples = [data[number] for number in range(len(data))]
        labels = [int(sample["data_samples"].gt_label) for sample in samples]
        pictures[name] = [sample["inputs"]["imgs"] for sample in samples]
        found = []
        with torch.no_grad():
            for start in range(0, len(samples), 16):
                batch = model.data_preprocessor(pseudo_collate(samples[start : start + 16]), False)
                found += model(**batch, mode="predict")
        scores[name] = torch.stack([sum(one.pred_score.values()) for one in found])
    top1 = {
        name: sum(a == b for a, b in zip(found.argmax(1).tolist(), labels, strict=True))
        for name, found in scores.items()
    }
    equal = all(map(torch.equal, pictures["videos"], pictures["packs"]))
    return {
        "clips": len(labels),
        "right": top1,
        "same_predictions": bool(
            torch.equal(scores["videos"].argmax(1), scores["packs"].argmax(1))
        ),
        "largest_difference_of_a_score": float((scores["videos"] - scores["packs"]).abs().max()),
        "pictures_equal": equal,
    }


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

        def before_train(self, runner):
            preparing = runner.model.module.data_preprocessor
            inner = preparing.forward

            def timed(*args, **kwargs):
                begun = time.perf_counter()
                done = inner(*args, **kwargs)
                self.preparing += time.perf_counter() - begun
                return done

            preparing.forward = timed

        def before_train_epoch(self, runner):
            self.start = self.mark = time.perf_counter()
            self.data = self.preparing = 0.0
            self.losses = []

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.data += time.perf_counter() - self.mark

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.losses.append(float(outputs["loss"]))
            self.mark = time.perf_counter()

        def after_train_epoch(self, runner):
            self.train = time.perf_counter() - self.start
            self.prepared = self.preparing

        def after_val_epoch(self, runner, metrics=None):
            whole = time.perf_counter() - self.start
            course.append(
                {
                    "train_s": round(self.train, 2),
                    "waiting_s": round(self.data, 2),
                    "preparing_s": round(self.prepared, 2),
                    "loss": round(statistics.mean(self.losses), 4),
                    "with_validation_s": round(whole, 2),
                    "top1": round(metrics[METRIC], 4),
                }
            )

    runner = Runner.from_cfg(copy.deepcopy(config_of(job)))
    runner.register_hook(Clock())
    runner.train()
    if runner.rank == 0:
        torch.save(runner.model.module.state_dict(), Path(job["dir"]) / "weights.pth")
        (Path(job["dir"]) / "course.json").write_text(json.dumps(course))


if __name__ == "__main__":
    main()
