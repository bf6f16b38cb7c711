"""A real search on UTD-MHAD: epochs that the ladder spends, and what it loses, against no rule.

    python benchmarks/search_utd.py --data data/utd_mhad_demo8 --work DIR --seeds 0 1 2

Runs `pcan sweep search` with two-process jobs on the CPU: for every seed all trials to their end
(`rule: none`), and for the seeds of `--live` also the ladder itself. The network is
configs/utd_mhad8.py at half its width and frames, with pictures of 32 px: a trial of 8 epochs
takes half a minute on two idle cores.

With `--warm` the trials start from weights that 12 epochs made, as fine-tuning does, and validate
on the 127 clips of `xsub_val`; what is measured is the stopping rule. A command that was cut off
goes on.

With `--curves FILE` every trial is trained whole and also reads its averaged weights at the epochs
of `READ_AT`; the complete curves are written to FILE, which `benchmarks/search_replay.py` replays.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.shared.measurement import AVERAGED
from pipeline.shared.rundir import RunDir

ROOT = Path(__file__).resolve().parents[1]
#: Epochs at which --curves reads averaged weights, by the epochs of a trial: all that the rules of
#: `search_replay.py` check.
READ_AT = {8: (3, 4, 5, 6), 30: (4, 5, 8, 10, 12, 15, 23)}
LR, POSE_WEIGHT = "optim_wrapper.optimizer.lr", "model.cls_head.loss_weights.1"
CONFIG = """\
_base_ = "./utd_mhad8.py"

model = dict(
    backbone=dict(
        rgb_frames=4,
        pose_frames=16,
        rgb_pathway=dict(base_channels=8),
        pose_pathway=dict(base_channels=4),
    ),
    cls_head=dict(in_channels=[256, 64]),
)
frames = dict(type="MMUniformSampleFrames", clip_len=dict(RGB=4, Pose=16), num_clips=1)
compact = dict(type="MMCompact", hw_ratio=1.0, allow_imgpad=True)
pack = [
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="PoseHeatmaps", sigma=0.7, use_score=True, scaling=0.25),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs", collect_keys=("imgs", "heatmap_imgs")),
]
train_pipeline = [
    frames,
    dict(type="MMDecode"),
    compact,
    dict(type="Resize", scale=(36, 36), keep_ratio=False),
    dict(type="RandomResizedCrop", area_range=(0.56, 1.0)),
    *pack,
]
val_pipeline = [dict(frames, test_mode=True), dict(type="MMDecode"), compact, *pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=val_pipeline))
"""
VALIDATION = 'val_dataloader["dataset"]["split"] = "xsub_val"\n'
SWEEP = """\
name: utd_small
config: configs/utd_small.py
objective:
  metric: acc/RGBPose_1:1_top1
  branches: {{rgb: acc/rgb_top1, pose: acc/pose_top1}}
job: {{gpus: 2, stop_grace_s: 60, retry: {{lost_worker: 2, port: 2, stall: 1}}}}
data: {{store: prepared, root: {data}}}
variants:
  small:
    seed: {seed}
    set:
      train_cfg.max_epochs: {epochs}
      optim_wrapper.optimizer.lr: 0.02
      param_scheduler:
        - {{type: CosineAnnealingLR, T_max: {epochs}, eta_min: 1e-5, by_epoch: true}}
    space:
      optim_wrapper.optimizer.lr: {{low: 1e-3, high: 0.5, log: true}}
      model.cls_head.loss_weights.1: {{low: 0.5, high: 2.0, step: 0.1}}
ladder: {{start: small}}
{warm}search: {{rule: {rule}, read: {read}, trials: {trials}, seed: {seed}{more}}}
"""

#: What --warm adds.
WARM = """\
warm_start: {checkpoint: work_dirs/start.pth, make: start}
"""
START = """\
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
"""


def sweep_text(args: argparse.Namespace, rule: str, seed: int) -> str:
    """Return the sweep file of one seed and rule."""
    more = ""
    if args.curves:
        # At least one trial has to be in danger, or nothing is read: the last, which is extra.
        at = [epoch / args.epochs for epoch in READ_AT[args.epochs]]
        more = f", keep: {args.trials / (args.trials + 1)}, at: {at}"
    text = SWEEP.format(
        data=args.data.resolve(),
        seed=seed,
        rule=rule,
        read=args.read,
        trials=args.trials + bool(args.curves),
        epochs=args.epochs,
        warm=WARM if args.warm else "",
        more=more,
    )
    return text.replace("variants:\n", START.format(seed=seed)) if args.warm else text


def project(args: argparse.Namespace, rule: str, seed: int) -> Path:
    """Make a project folder; all of them share one store of prepared clips."""
    # Trials that run whole have no reading, so both readings share them.
    name = (
        f"{rule}-{seed}" if rule == "none" or args.read == "best" else f"{rule}-{args.read}-{seed}"
    )
    folder = args.work / name
    (folder / "sweeps").mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "configs", folder / "configs", dirs_exist_ok=True)
    shutil.copy(ROOT / "wandb.yaml", folder)
    config = CONFIG + VALIDATION if args.warm else CONFIG
    (folder / "configs" / "utd_small.py").write_text(config)
    (folder / "sweeps" / "utd_small.yaml").write_text(sweep_text(args, rule, seed))
    shared = args.work / "data"
    shared.mkdir(exist_ok=True)
    if not (folder / "data").exists():
        (folder / "data").symlink_to(shared, target_is_directory=True)
    return folder


def pcan(folder: Path, *words: str, keep: bool = False) -> str:
    """Run a command in a project; its talk goes to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE if keep else sys.stderr,
        text=True,
        check=True,
    )
    return done.stdout if keep else ""


def search(args: argparse.Namespace, rule: str, seed: int) -> list[dict[str, Any]]:
    """Search, or go on with it; return every trial with its curve."""
    folder = project(args, rule, seed)
    pcan(folder, "data", "prepare", "utd_small")
    pcan(folder, "sweep", "search", "utd_small", "--device", "cpu", "--wandb", "disabled")
    status = json.loads(pcan(folder, "sweep", "status", "utd_small", "--json", keep=True))
    studies = [study for study in status["studies"] if study["variant"] == "small"]
    trials = [trial for study in studies for trial in study["trials"] if trial["attempts"]]
    for trial in trials:
        measured = RunDir(folder / trial["run_dir"]).read_measurements()
        trial["measured"] = [one for one in measured if one.epoch]
        trial["curve"] = [one.top1 for one in trial["measured"]]
    return trials


def record(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train every trial of a seed whole, with readings; return what replays need of each."""
    found = [trial for trial in search(args, "halving", seed) if trial["state"] != "PRUNED"]
    return {
        "seed": seed,
        "clips": found[0]["val_clips"],
        "trials": [
            {
                "number": trial["number"],
                "lr": trial["params"][LR],
                "pose_weight": trial["params"].get(POSE_WEIGHT, 2.0),
                "top1": [round(one.top1, 6) for one in trial["measured"]],
                "averaged": {
                    one.epoch: round(one.extra[AVERAGED], 6)
                    for one in trial["measured"]
                    if AVERAGED in one.extra
                },
            }
            for trial in found
        ],
    }


def write_curves(args: argparse.Namespace) -> None:
    """Write the complete curves of all seeds, after each seed anew."""
    seeds = []
    for seed in args.seeds:
        seeds.append(record(args, seed))
        content = {"epochs": args.epochs, "read_at": READ_AT[args.epochs], "seeds": seeds}
        args.curves.write_text(json.dumps(content) + "\n")


def row(kind: str, seed: int, epochs: int, of: int, best: float, full: float) -> str:
    lost = f"{100 * (full - best):.1f}"
    share = f"{100 * epochs / of:.0f} %"
    return f"| {seed} | {kind} | {epochs} of {of} | {share} | {100 * best:.1f} % | {lost} |"


def report(args: argparse.Namespace, seed: int) -> list[str]:
    """Run one seed and return its lines of the table."""
    live = search(args, "ladder", seed) if seed in args.live else []
    curves = [trial["curve"] for trial in search(args, "none", seed)]
    full, of = max(map(max, curves)), len(curves) * args.epochs
    lines = [row("no rule", seed, sum(map(len, curves)), of, full, full)]
    if live:
        kept = [trial["best_top1"] for trial in live if trial["state"] == "COMPLETE"]
        spent = sum(trial["epochs"] for trial in live)
        lines.append(row(f"ladder, live, {args.read}", seed, spent, of, max(kept), full))
        # The searches draw alike only at first, so the bar is that of the complete curves.
        count = max(1, round(spent / args.epochs))
        first = max(max(one) for one in curves[:count])
        lines.append(
            row(f"the first {count} run whole", seed, count * args.epochs, of, first, full)
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/utd_mhad_demo8"))
    parser.add_argument("--work", type=Path, required=True, help="where the projects are made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--live", type=int, nargs="*", default=[0])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--read", choices=("averaged", "best"), default="averaged")
    parser.add_argument("--warm", action="store_true", help="start from trained weights")
    parser.add_argument("--curves", type=Path, help="write complete curves with readings here")
    args = parser.parse_args()
    args.work = args.work.resolve()
    if args.curves:
        write_curves(args)
        return
    print("| seed | rule | epochs | share | best that may be exported | points lost |")
    print("|---|---|---|---|---|---|")
    for seed in args.seeds:
        print("\n".join(report(args, seed)), flush=True)


if __name__ == "__main__":
    main()
