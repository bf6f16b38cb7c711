"""Where the demo's gates may stand: train the demo for real and note what each rate gives.

    python benchmarks/calibrate_demo.py DATA OUT [--seeds 5]

Makes starting weights, then fine-tunes from them with several learning rates and seeds, two
processes as in the demo, and writes OUT.json and OUT.md. About 12 minutes on two idle cores.
The thresholds of sweeps/demo.yaml are read off the table: a floor that the far-too-high rate
misses by four standard errors with every seed and that the sound rates keep.
"""

import argparse
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "pcan_demo.py"
WEIGHTS = "weights.pth"
METRIC = "acc/RGBPose_1:1_top1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder made by pcan data demo")
    parser.add_argument("out", type=Path, help="name of the table, without its ending")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--make-lr", type=float, default=0.05)
    parser.add_argument("--make-epochs", type=int, default=14)
    parser.add_argument("--epochs", type=int, default=5, help="of each fine-tuning")
    parser.add_argument("--lrs", type=float, nargs="+", default=[1.0, 0.3, 0.03, 0.01, 0.003])
    parser.add_argument("--rank-job", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_job:
        run_all(json.loads(options.rank_job.read_text()))
        return
    with tempfile.TemporaryDirectory() as work:
        jobs = plan_runs(options, Path(work))
        courses = launch(jobs, Path(work))
    report(options, jobs, courses)


def plan_runs(options: argparse.Namespace, work: Path) -> list[dict]:
    """Return the weight-making run and all fine-tunings, in order."""
    base = {"config": str(options.config), "data": str(options.data.resolve()), "load": None}
    made = {**base, "name": "make", "lr": options.make_lr, "epochs": options.make_epochs}
    runs = [{**made, "seed": 0, "dir": str(work / "make")}]
    weights = str(work / "make" / WEIGHTS)
    for lr in options.lrs:
        for seed in range(options.seeds):
            run = {**base, "name": f"lr {lr:g}", "lr": lr, "epochs": options.epochs, "seed": seed}
            runs.append({**run, "load": weights, "dir": str(work / f"{lr:g}-{seed}")})
    return runs


def launch(jobs: list[dict], work: Path) -> list[list[dict]]:
    """Run all in one pair of processes; return each run's measurements."""
    listing = work / "jobs.json"
    listing.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [__file__, ".", ".", "--rank-job", str(listing)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return [json.loads((Path(job["dir"]) / "course.json").read_text()) for job in jobs]


def run_all(jobs: list[dict]) -> None:
    """Be one rank: train every run of the list."""
    warnings.simplefilter("ignore")
    for name in ("drn", "drn.drn"):  # missing from the wheel of mmaction2 1.2.0
        module = sys.modules[f"mmaction.models.localizers.{name}"] = ModuleType(name)
        module.__path__, module.DRN = [], None
    import cv2
    import torch
    from mmaction.utils import register_all_modules

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.distributed.init_process_group("gloo")
    register_all_modules()
    logging.disable(logging.WARNING)
    for number, job in enumerate(jobs, 1):
        course = train(job)
        if torch.distributed.get_rank() == 0:
            shown = " ".join(f"{point['top1']:.3f}" for point in course)
            print(f"{number}/{len(jobs)} {job['name']} seed {job['seed']}: {shown}", flush=True)
            (Path(job["dir"]) / "course.json").write_text(json.dumps(course))
        torch.distributed.barrier()


def train(job: dict) -> list[dict]:
    """Train one run; return a point an epoch (epoch 0 where it starts from weights)."""
    import torch
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    config = Config.fromfile(job["config"])
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = job["data"]
    config.optim_wrapper.optimizer.lr = job["lr"]
    config.train_cfg.max_epochs = job["epochs"]
    for scheduler in config.param_scheduler:
        scheduler.update(end=job["epochs"], T_max=job["epochs"])
    config.merge_from_dict(
        {
            "work_dir": job["dir"],
            "experiment_name": Path(job["dir"]).name,
            "randomness": {"seed": job["seed"]},
            "load_from": job["load"],
            "launcher": "pytorch",
            "log_level": "WARNING",
            "env_cfg": {"dist_cfg": {"backend": "gloo"}},
            "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None},
            "default_hooks": {"checkpoint": None},
        }
    )
    course: list[dict] = []

    class Note(Hook):
        def after_val_epoch(self, runner, metrics=None):
            branches = {"rgb": metrics["acc/rgb_top1"], "pose": metrics["acc/pose_top1"]}
            course.append({"epoch": runner.epoch, "top1": metrics[METRIC], **branches})

    runner = Runner.from_cfg(config)
    runner.register_hook(Note())
    if job["load"]:
        runner.val()
    model = runner.train()
    if runner.rank == 0:  # weights alone: they load with torch's safe default
        torch.save({"state_dict": model.module.state_dict()}, Path(job["dir"]) / WEIGHTS)
    return course


def report(options: argparse.Namespace, jobs: list[dict], courses: list[list[dict]]) -> None:
    """Write OUT.json and OUT.md."""
    runs = [
        {"name": job["name"], "lr": job["lr"], "seed": job["seed"], "course": course}
        for job, course in zip(jobs, courses, strict=True)
    ]
    clips = json.loads((options.data / "meta.json").read_text())
    record = {"schema": 1, "data": clips, "runs": runs}
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(runs, clips))
    print(options.out.with_suffix(".md").read_text())


def table(runs: list[dict], clips: dict) -> str:
    """Return the markdown table: mean, lowest and highest top-1 of each epoch."""
    val_clips = (clips["clips"] // 2) * len(clips["classes"])
    start = runs[0]["course"][-1]["top1"]
    error = math.sqrt(start * (1 - start) / val_clips)
    made = " ".join(f"{point['top1']:.3f}" for point in runs[0]["course"])
    lines = [
        f"Starting weights, lr {runs[0]['lr']:g}, top-1 by epoch: {made}",
        f"({val_clips} validation clips; standard error at {start:.3f}: {error:.3f}.)",
        "",
    ]
    tuned = [run for run in runs if run["name"] != "make"]
    epochs = [point["epoch"] for point in tuned[0]["course"]]
    lines.append("| fine-tuning | " + " | ".join(f"epoch {e}" for e in epochs) + " |")
    lines.append("| --- |" + " --- |" * len(epochs))
    for name in dict.fromkeys(run["name"] for run in tuned):
        columns = zip(*(run["course"] for run in tuned if run["name"] == name), strict=True)
        cells = [[point["top1"] for point in column] for column in columns]
        text = [f"{statistics.mean(c):.3f} ({min(c):.3f}-{max(c):.3f})" for c in cells]
        lines.append(f"| {name} | " + " | ".join(text) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
