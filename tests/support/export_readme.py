"""Run the commands that the README.md of an export names, as a person would: by a shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(folder: Path) -> dict[str, str]:
    """Return the indented commands of an export's README by the line above them."""
    found: dict[str, str] = {}
    title = ""
    for line in (folder / "README.md").read_text().splitlines():
        if line.startswith("    "):
            found[title] = found.get(title, "") + line.strip() + "\n"
        elif line:
            title = line
    return found


def run(folder: Path, command: str, **env: str) -> str:
    """Run a block in the export's folder, after the set-up; return all that it printed."""
    setup = next(text for title, text in blocks(folder).items() if "project's folder" in title)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PCAN_DATA_ROOT")}
    done = subprocess.run(
        ["bash", "-e", "-c", setup + command],
        cwd=folder,
        env={**kept, "PATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def measured(output: str, metric: str) -> float:
    """Return the last value of a metric that MMEngine has logged."""
    return float(re.findall(rf"{re.escape(metric)}: ([0-9.]+)", output)[-1])
