"""What `pcan sweep refine` gives on UTD-MHAD: its table over seeds, with errors.

    python benchmarks/refine_utd.py --data data/utd_mhad_demo8 --work DIR --seeds 0 1 2

For every seed: starting weights of 12 epochs, then three recipes of 8 epochs from them, then
`refine` over the three. The network is that of search_utd.py (configs/utd_mhad8.py at half its
width and frames, 32 px), trained with flips as the shipped config has them. Trials validate on the
127 clips of `xsub_val` (four people), so a line is chosen on two people and read on the other two.
A command that was cut off goes on.
"""

import argparse
import json
import math
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from search_utd import CONFIG, VALIDATION, pcan

ROOT = Path(__file__).resolve().parents[1]
SWEEP = """\
name: utd_refine
config: configs/utd_refine.py
objective:
  metric: acc/RGBPose_1:1_top1
  branches: {{rgb: acc/rgb_top1, pose: acc/pose_top1}}
job: {{gpus: 2, stop_grace_s: 60, retry: {{lost_worker: 2, port: 2, stall: 1}}}}
data: {{store: video, root: {data}}}
warm_start: {{checkpoint: work_dirs/start.pth, make: start}}
variants:
  start:
    seed: {seed}
    warm_start: null
    in_ladder: false
    set:
      train_cfg.max_epochs: 12
      optim_wrapper.optimizer.lr: 0.02
      param_scheduler:
        - {{type: CosineAnnealingLR, T_max: 12, eta_min: 1e-5, by_epoch: true}}
  baseline:
    seed: {seed}
    set:
      train_cfg.max_epochs: 8
      optim_wrapper.optimizer.lr: 0.02
      model.cls_head.loss_weights: [1.0, 2.0, 0.5, 0.8]
      param_scheduler:
        - {{type: CosineAnnealingLR, T_max: 8, eta_min: 1e-5, by_epoch: true}}
  pose-1.5: {{like: baseline, set: {{model.cls_head.loss_weights: [1.0, 1.5, 0.5, 0.8]}}}}
  lr-0.01: {{like: baseline, set: {{optim_wrapper.optimizer.lr: 0.01}}}}
ladder: {{start: baseline}}
"""


def config_text() -> str:
    """Return the small config of search_utd.py with the flips of training."""
    flip = (
        'dict(type="Flip", flip_ratio=0.5, left_kp=[1, 3, 5, 7, 9, 11, 13, 15], '
        "right_kp=[2, 4, 6, 8, 10, 12, 14, 16])"
    )
    before = 'dict(type="RandomResizedCrop", area_range=(0.56, 1.0)),\n    *pack,'
    after = before.replace("*pack,", f"pack[0],\n    {flip},\n    *pack[1:],")
    assert before in CONFIG
    return CONFIG.replace(before, after) + VALIDATION


def project(args: argparse.Namespace, seed: int) -> Path:
    """Make the project folder of a seed."""
    folder: Path = args.work / f"seed-{seed}"
    (folder / "sweeps").mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "configs", folder / "configs", dirs_exist_ok=True)
    shutil.copy(ROOT / "wandb.yaml", folder)
    (folder / "configs" / "utd_refine.py").write_text(config_text())
    text = SWEEP.format(data=args.data.resolve(), seed=seed)
    (folder / "sweeps" / "utd_refine.yaml").write_text(text)
    return folder


def refined(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train what is lacking and refine; return the table with the time it took."""
    folder = project(args, seed)
    words = ("sweep", "launch", "utd_refine", "--policy", "all", "--device", "cpu")
    pcan(folder, *words, "--wandb", "disabled")
    if args.train_only:
        return {}
    began = time.monotonic()
    text = pcan(folder, "sweep", "refine", "utd_refine", "--device", "cpu", "--json", keep=True)
    return {**json.loads(text), "seconds": time.monotonic() - began}


def rows(tables: list[dict[str, Any]]) -> list[str]:
    """Return the table over seeds: each line's mean difference to plain, and its error."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        for line in table["lines"]:
            tuned = line["ratio"] is not None and line["name"] != "ratio"
            lines.setdefault(line["name"] + (" + ratio" if tuned else ""), []).append(line)
    found = ["| line | top-1 by seed | mean difference to plain | passes | one model |"]
    found.append("|---|---|---|---|---|")
    for name, seen in lines.items():
        top1 = ", ".join(f"{100 * one['top1']:.1f}" for one in seen)
        points = [100 * one["difference"] for one in seen]
        error = statistics.stdev(points) / math.sqrt(len(points)) if len(points) > 1 else math.nan
        passes = ", ".join(sorted({str(one["passes"]) for one in seen}))
        one_model = "yes" if all(one["one_model"] for one in seen) else "no"
        mean = f"{statistics.fmean(points):+.2f} ± {error:.2f}"
        found.append(f"| {name} | {top1} | {mean} | {passes} | {one_model} |")
    chosen = [100 * one["selection"]["difference"] for one in tables]
    error = statistics.stdev(chosen) / math.sqrt(len(chosen)) if len(chosen) > 1 else math.nan
    found.append("")
    found.append(f"The choosing of a line: {statistics.fmean(chosen):+.2f} ± {error:.2f} points.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/utd_mhad_demo8"))
    parser.add_argument("--work", type=Path, required=True, help="where the projects are made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-only", action="store_true")
    args = parser.parse_args()
    args.work = args.work.resolve()
    tables = [table for seed in args.seeds if (table := refined(args, seed))]
    if tables:
        print("\n".join(rows(tables)))
        for seed, table in zip(args.seeds, tables, strict=True):
            print(f"seed {seed}: chosen {table['chosen']}, {table['seconds']:.0f} s")


if __name__ == "__main__":
    main()
