"""Where the demo's gates may stand: run its recipes with several seeds and read the table.

    python benchmarks/calibrate_demo.py [SWEEP] [--seeds 5] [--epochs 3]

Runs in the project's folder, through `pcan sweep launch` itself: a sweep file with one variant a
recipe and seed, without gates, from the sweep's own starting weights. Prints a Markdown table of
top-1 by epoch. A floor is sound when the recipe that is to fail misses it by four standard errors
with every seed, and every other recipe keeps it.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.plan.yaml_lines import load

PCAN = [sys.executable, "-m", "pipeline.cli.main"]


def main() -> None:
    """Write the calibration's sweep, run it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sweep", nargs="?", default="demo")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of each recipe that is tried")
    parser.add_argument("--recipes", nargs="+", help="only these")
    options = parser.parse_args()
    plan, _ = load(Path("sweeps", f"{options.sweep}.yaml").read_text(), options.sweep)
    name = f"{options.sweep}_calibration"
    file = Path("sweeps", f"{name}.yaml")
    file.write_text(json.dumps(calibration(plan, name, options), indent=1))  # JSON is YAML
    try:
        launch = [*PCAN, "sweep", "launch", name, "--policy", "all", "--wandb", "disabled"]
        subprocess.run(launch, check=True)
        reported = subprocess.run(
            [*PCAN, "sweep", "status", name, "--json"], check=True, capture_output=True, text=True
        )
    finally:
        file.unlink()
    print(table(json.loads(reported.stdout)))


def calibration(plan: dict[str, Any], name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the sweep that runs each recipe of `plan` with each seed, and no gate."""
    made = plan["warm_start"]["make"]
    variants = {made: plan["variants"][made]}
    for recipe, variant in plan["variants"].items():
        if recipe == made or variant.get("warm_start", 1) is None:
            continue
        if options.recipes and recipe not in options.recipes:
            continue
        base = plan["variants"].get(variant.get("like"), {}).get("set", {})
        recipe_set = {**base, **variant["set"], "train_cfg.max_epochs": options.epochs}
        for seed in range(options.seeds):
            variants[f"{recipe}.s{seed}"] = {"set": recipe_set, "seed": seed}
    start = next(n for n in variants if n != made)
    kept = {
        key: plan[key]
        for key in ("config", "objective", "job", "warm_start", "data")
        if key in plan
    }
    return {"name": name, **kept, "variants": variants, "ladder": {"start": start}}


def table(status: dict[str, Any]) -> str:
    """Return top-1 by epoch for each recipe: lowest, median and highest over the seeds."""
    rows: dict[str, list[list[float]]] = {}
    clips = 0
    for study in status["studies"]:
        for trial in study["trials"]:
            folder = Path(trial["run_dir"])
            facts = json.loads((folder / "facts.json").read_text())
            clips = facts["val_clips"]
            lines = (folder / "measurements.jsonl").read_text().splitlines()
            recipe = study["variant"].rpartition(".s")[0] or study["variant"]
            rows.setdefault(recipe, []).append([json.loads(line)["top1"] for line in lines])
    out = ["| recipe | seeds | top-1 by epoch, median (lowest to highest) | standard error |"]
    out.append("|---|---|---|---|")
    for recipe, curves in rows.items():
        cells = [
            f"{statistics.median(v):.3f} ({min(v):.3f} to {max(v):.3f})"
            for v in zip(*curves, strict=False)
        ]
        first = statistics.median(curve[0] for curve in curves)
        error = math.sqrt(first * (1 - first) / clips)
        out.append(f"| {recipe} | {len(curves)} | {'; '.join(cells)} | {error:.3f} |")
    return "\n".join([*out, f"\n{clips} validation clips."])


if __name__ == "__main__":
    main()
