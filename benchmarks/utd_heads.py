"""PCAN against stock RGBPoseConv3D on real clips: same recipe, same seeds.

    python benchmarks/utd_heads.py --data data/utd_mhad_demo8 --seeds 0 1 2

Trains configs/utd_mhad8.py as it stands, and with its classes taken back to MMAction2's own,
one process and one thread each, on people 1, 3, 5, 7; tests the last epoch on the other four.
Prints one JSON line a run and a Markdown table with standard errors: of the mean over seeds,
and of one run from the number of test clips.
"""

import argparse
import ast
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

STOCK = {"PCANBackbone": "RGBPoseConv3D", "PCANHead": "StockHead"}
HEAD_KEYS = ("num_classes", "in_channels", "dropout", "average_clips", "topk")
METRICS = ("RGBPose_1:1_top1", "rgb_top1", "pose_top1")


def override(text: str) -> tuple:
    """Turn `path=value` into the path and the Python value."""
    path, _, value = text.partition("=")
    return path, ast.literal_eval(value)


def as_stock(model) -> None:
    """Turn a PCAN model's settings into those of the stock classes, in place."""
    backbone, head = model.backbone, model.cls_head
    for key in [k for k in backbone if k.startswith("cross_") or k.endswith("_frames")]:
        del backbone[key]
    weights = list(head.loss_weights)[:2]
    for key in [k for k in head if k not in (*HEAD_KEYS, "type")]:
        del head[key]
    backbone.type, head.type = STOCK[backbone.type], STOCK[head.type]
    head.update(loss_components=["rgb", "pose"], loss_weights=weights)


def register_stock_head() -> None:
    """Make RGBPoseHead usable on any batch, as StockHead.

    MMAction2 1.2.0's own fails on a batch of exactly `num_classes` samples, such as the last 8
    of 128 in twelves: it takes the labels for one soft label and asks a dict for its size.
    """
    import torch
    from mmaction.models.heads import RGBPoseHead
    from mmaction.registry import MODELS

    @MODELS.register_module()
    class StockHead(RGBPoseHead):
        def loss_by_feat(self, cls_scores, data_samples):
            labels = torch.cat([sample.gt_label for sample in data_samples])
            losses = {}
            for name, weight in zip(self.loss_components, self.loss_weights, strict=True):
                terms = self.loss_by_scores(cls_scores[name], labels)
                losses.update({f"{name}_{term}": value for term, value in terms.items()})
                losses[f"{name}_loss_cls"] = losses[f"{name}_loss_cls"] * weight
            return losses


def train(options: argparse.Namespace, kind: str, seed: int) -> dict:
    """Train once; return the accuracies of the last epoch on the test people."""
    import warnings

    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    from mmengine.config import Config
    from mmengine.runner import Runner

    import pipeline.train.model  # noqa: F401

    cfg = Config.fromfile(options.config)
    if kind == "stock":
        register_stock_head()
        as_stock(cfg.model)
        cfg.val_evaluator = cfg.test_evaluator = [dict(type="AccMetric")]
    for loader, split in (("train", "train"), ("val", "val"), ("test", "val")):
        dataset = cfg[f"{loader}_dataloader"].dataset
        dataset.update(data_root=options.data, split=f"{options.split}_{split}")
    cfg.merge_from_dict(dict(map(override, options.set)))
    for schedule in cfg.param_scheduler:
        schedule.update(end=cfg.train_cfg.max_epochs, T_max=cfg.train_cfg.max_epochs)
    cfg.randomness = dict(seed=seed)
    cfg.train_cfg.val_interval = 1000  # only the last epoch counts
    cfg.log_level = "ERROR"
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg.default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=-1))
        runner = Runner.from_cfg(cfg)
        runner.train()
        found = runner.test()
        clips = len(runner.test_dataloader.dataset)
    return {"kind": kind, "seed": seed, "clips": clips, **found}


def child(options: argparse.Namespace, kind: str, seed: int) -> dict:
    """Run one training in a process of its own."""
    command = [
        *(sys.executable, __file__, "--one", kind, str(seed), "--data", options.data),
        *("--config", options.config, "--split", options.split, "--set", *options.set),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind}, seed {seed}: {done.stderr[-3000:]}")
    line = done.stdout.strip().splitlines()[-1]
    print(line, flush=True)
    return json.loads(line)


def table(runs: list) -> str:
    """Put the runs into Markdown, one line a model."""
    lines = [
        "| model | fused | rgb | pose | se of the mean | se of one run |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("stock", "pcan"):
        mine = [run for run in runs if run["kind"] == kind]
        columns = [[run[f"acc/{metric}"] for run in mine] for metric in METRICS]
        cells = [
            f"{statistics.mean(column):.3f} ({', '.join(f'{v:.3f}' for v in column)})"
            for column in columns
        ]
        fused, count = columns[0], len(mine)
        spread = statistics.stdev(fused) / math.sqrt(count) if count > 1 else math.nan
        share = statistics.mean(fused)
        single = math.sqrt(share * (1 - share) / mine[0]["clips"])
        lines.append(f"| {kind} | {' | '.join(cells)} | {spread:.3f} | {single:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/utd_mhad_demo8")
    parser.add_argument("--config", default="configs/utd_mhad8.py")
    parser.add_argument("--split", default="xsub", choices=["xsub", "dev"])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=["stock", "pcan"])
    parser.add_argument("--one", nargs=2, metavar=("KIND", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train(options, options.one[0], int(options.one[1]))))
        return
    wanted = [(options, kind, seed) for seed in options.seeds for kind in options.kinds]
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = list(pool.map(lambda one: child(*one), wanted))
    if len(options.kinds) == 2:
        print("\n" + table(runs))


if __name__ == "__main__":
    main()
