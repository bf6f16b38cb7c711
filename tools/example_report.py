"""Make docs/example-report: a small form of sweeps/utd_mhad8.yaml, launched, confirmed, reported.

    PCAN_DATA=DIR .venv/bin/python tools/example_report.py [--work DIR]

Gates, ladder, patience and variants are those of the shipped plan. The network is that of
benchmarks/search_utd.py (half the width and frames, 32 px), the starting weights train for 12
epochs, and trials validate on the 127 clips of `xsub_val`: the 32 of `dev_val` could decide
nothing. Two processes on the CPU; a command that was cut off goes on.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from search_utd import CONFIG, VALIDATION  # noqa: E402

OUT = ROOT / "docs" / "example-report"
START_EPOCHS = 12


def small_plan() -> dict[str, Any]:
    """Return the shipped plan for the small network."""
    text = (ROOT / "sweeps" / "utd_mhad8.yaml").read_text(encoding="utf-8")
    plan: dict[str, Any] = yaml.safe_load(text)
    schedule = {"type": "CosineAnnealingLR", "T_max": START_EPOCHS, "eta_min": 1e-5}
    plan["variants"]["start"]["set"] = {
        "train_cfg.max_epochs": START_EPOCHS,
        "param_scheduler": [{**schedule, "by_epoch": True, "begin": 0, "end": START_EPOCHS}],
    }
    return {**plan, "name": "utd_example", "config": "configs/utd_example.py"}


def make_project(folder: Path) -> None:
    """Clone this checkout's last commit, which trials then run and record, and add the plan."""
    if not folder.exists():
        git = ("git", "-c", "advice.detachedHead=false")
        subprocess.run([*git, "clone", "--quiet", str(ROOT), str(folder)], check=True)
        subprocess.run([*git, "checkout", "--quiet", "--detach"], cwd=folder, check=True)
    (folder / "configs" / "utd_example.py").write_text(CONFIG + VALIDATION, encoding="utf-8")
    text = yaml.safe_dump(small_plan(), sort_keys=False)
    (folder / "sweeps" / "utd_example.yaml").write_text(text, encoding="utf-8")


def pcan(folder: Path, *words: str) -> None:
    """Run a command in the project; its exit code is 0 or 3 (no variant was eligible)."""
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    env |= {"PCAN_HOST": "example", "LOGNAME": "example"}  # what the diary names
    command = [sys.executable, "-m", "pipeline.cli.main", "sweep", *words]
    done = subprocess.run(command, cwd=folder, env=env, check=False)
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(words)}: exit code {done.returncode}")


def main() -> None:
    """Launch, confirm on new seeds, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "work_dirs" / "example_report")
    parser.add_argument("--seeds", type=int, default=2, help="New seeds of each finalist.")
    args = parser.parse_args()
    if "PCAN_DATA" not in os.environ:
        parser.error("set PCAN_DATA to the folder that holds utd_mhad_demo8")
    make_project(args.work)
    where = ("--device", "cpu", "--wandb", "disabled")
    pcan(args.work, "launch", "utd_example", *where)
    seeds = ("--confirm", "2", "--seeds", str(args.seeds))
    pcan(args.work, "best", "utd_example", *seeds, *where)
    pcan(args.work, "report", "utd_example", "--out", str(OUT))


if __name__ == "__main__":
    main()
