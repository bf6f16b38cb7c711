"""What the control side costs: start-up, `status`, memory, and the way to the first iteration.

Run: `python benchmarks/control.py`. Prints one line a figure with its target. Times are medians
of whole processes in one run; the launch is compared with `torchrun` typed by hand on the same run
directory, so what both wait for (torch, the model, the data) cancels out.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PCAN = [sys.executable, "-m", "pipeline.cli.main"]
RUNS = 7
SWEEP = """\
name: bench
config: jobs/tiny.py
objective: {metric: acc/RGBPose_1:1_top1, branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}}
job: {gpus: 2, code_root: jobs}
variants:
  baseline: {set: {train_cfg.max_epochs: 1, val_evaluator.top1: [0.5]}}
  second: {like: baseline, set: {val_evaluator.top1: [0.6]}}
  third: {like: baseline, set: {val_evaluator.top1: [0.7]}}
  fourth: {like: baseline, set: {val_evaluator.top1: [0.7]}}
ladder: {start: baseline}
"""


def main() -> None:
    """Measure and print everything."""
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        show("pcan --help", median(lambda: run(project, "--help")), "s", 0.3)
        launch_once(project, "baseline")  # fills the caches, as any first launch does
        show("pcan sweep status", median(lambda: run(project, "sweep", "status")), "s", 0.5)
        launches = [launch_once(project, v) for v in ("second", "third", "fourth")]
        ours, peak = [s for s, _ in launches], [mb for _, mb in launches]
        rundir = project / "runs" / "bench" / "fourth" / "0"
        theirs = [by_hand(project, rundir) for _ in ours]
        later = statistics.median(ours) - statistics.median(theirs)
        show("launch -> first iteration, over torchrun by hand", later, "s", 1.5)
        show("memory of the control side", max(peak), "MB", 200)


def show(what: str, value: float, unit: str, target: float) -> None:
    """Print one figure."""
    verdict = "ok" if value <= target else "OVER"
    print(f"{what:<52} {value:8.2f} {unit:<3} target {target:g} {unit}  {verdict}")


def make_project(folder: Path) -> Path:
    """Make a project whose jobs train a tiny network."""
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "bench.yaml").write_text(SWEEP)
    shutil.copytree(ROOT / "tests" / "jobs", folder / "jobs")
    shutil.copy(ROOT / "wandb.yaml", folder)
    return folder


def environment() -> dict[str, str]:
    """Return an environment in which the project's own code is run."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(project: Path, *words: str) -> None:
    """Run one command to its end."""
    subprocess.run(
        [*PCAN, *words], cwd=project, env=environment(), check=True, capture_output=True
    )


def median(action: Callable[[], None]) -> float:
    """Return the median seconds of some runs, after one that is not counted."""
    times = []
    for _ in range(RUNS + 1):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def launch_once(project: Path, variant: str) -> tuple[float, float]:
    """Launch one variant; return seconds to its first iteration and peak memory in MB."""
    rundir = project / "runs" / "bench" / variant / "0"
    words = ["sweep", "launch", "bench", "--device", "cpu", "--variant", variant]
    begun = time.time()
    process = subprocess.Popen(
        [*PCAN, *words], cwd=project, env=environment(), stderr=subprocess.DEVNULL
    )
    first = wait_for_iteration(rundir / "progress.json", begun)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, own_peak(process.pid))
        time.sleep(0.02)
    return first, peak


def own_peak(pid: int) -> float:
    """Return the most memory a process itself has held so far, in MB; its children apart."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")), 0.0)


def by_hand(project: Path, rundir: Path) -> float:
    """Run the same job by torchrun; return seconds to its first iteration."""
    for name in ("progress.json", "outcome.json", "measurements.jsonl", "stop.json"):
        (rundir / name).unlink(missing_ok=True)
    shutil.rmtree(rundir / "checkpoints")
    (rundir / "checkpoints").mkdir()
    words = ["--standalone", "--nproc_per_node=2", "-m", "pipeline.train", str(rundir)]
    env = {**environment(), "PYTHONPATH": f"{project / 'jobs'}:{ROOT}"}
    begun = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words],
        cwd=project,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first = wait_for_iteration(rundir / "progress.json", begun)
    process.wait()
    return first


def wait_for_iteration(progress: Path, begun: float) -> float:
    """Return seconds from `begun` to the first word about training."""
    while not progress.exists() or progress.stat().st_mtime < begun:
        time.sleep(0.005)
    return time.time() - begun


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
