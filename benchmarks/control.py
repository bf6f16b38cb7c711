"""What the control side costs: start-up, `status`, memory, and the way to the first iteration.

Run: `python benchmarks/control.py`. Prints one line a figure with its target. Times are medians
of whole processes in one run. A launch is compared with `torchrun` typed by hand on the same run
directory, one after the other for each variant, so that what both wait for (torch, the model, the
data) and what else the machine does cancel out. The first launch of a sweep stands apart: its
configs are rehearsed, once for all variants. A small form of this is a test
(`tests/launch/test_launch_overhead.py`).
"""

import dataclasses
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PCAN = [sys.executable, "-m", "pipeline.cli.main"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
RUNS = 7
#: Launched after the first one, which has filled the caches for all of them.
VARIANTS = ("second", "third", "fourth", "fifth", "sixth")
SWEEP = """\
name: bench
config: jobs/tiny.py
objective: {metric: acc/RGBPose_1:1_top1, branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}}
job: {gpus: 2, code_root: jobs}
variants:
  baseline: {set: {train_cfg.max_epochs: 1, val_evaluator.top1: [0.5]}}
  second: {like: baseline, set: {val_evaluator.top1: [0.6]}}
  third: {like: baseline, set: {val_evaluator.top1: [0.7]}}
  fourth: {like: baseline, set: {val_evaluator.top1: [0.8]}}
  fifth: {like: baseline, set: {val_evaluator.top1: [0.9]}}
  sixth: {like: baseline, set: {val_evaluator.top1: [1.0]}}
ladder: {start: baseline}
"""


@dataclasses.dataclass(frozen=True)
class Start:
    """One run of a job, by a launch or by hand.

    Args:
        first_s: seconds to its first iteration.
        cpu_s: CPU seconds of all its processes, to its end.
        peak_mb: the most memory that the started process itself has held.
    """

    first_s: float
    cpu_s: float
    peak_mb: float


def main() -> None:
    """Measure and print everything."""
    # As users have it: a machine that keeps no bytecode compiles our modules with every command.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        show("pcan --help", median(lambda: run(project, "--help")), "s", 0.3)
        (first,) = pairs(project, ["baseline"])
        show("pcan sweep status", median(lambda: run(project, "sweep", "status")), "s", 0.3)
        measured = pairs(project, VARIANTS)
        later = statistics.median(ours.first_s - hand.first_s for ours, hand in measured)
        show("launch -> first iteration, over torchrun by hand", later, "s", 1.5)
        cpu = statistics.median(ours.cpu_s - hand.cpu_s for ours, hand in measured)
        show("CPU time of a launch, over torchrun by hand", cpu, "s", None)
        show("the same, first launch of a sweep", first[0].first_s - first[1].first_s, "s", None)
        show("memory of the control side", max(ours.peak_mb for ours, _ in measured), "MB", 200)


def pairs(project: Path, variants: Sequence[str]) -> list[tuple[Start, Start]]:
    """Launch each variant and then run the same job by hand."""
    return [(launch_once(project, name), by_hand(project, name)) for name in variants]


def show(what: str, value: float, unit: str, target: float | None) -> None:
    """Print one figure."""
    line = f"{what:<52} {value:8.2f} {unit:<3}"
    if target is not None:
        line += f" target {target:g} {unit}  {'ok' if value <= target else 'OVER'}"
    print(line)


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


def launch_once(project: Path, variant: str) -> Start:
    """Launch one variant."""
    words = ["sweep", "launch", "bench", "--device", "cpu", "--wandb", "disabled"]
    argv = [*PCAN, *words, "--variant", variant]
    return measured_start(argv, project, environment(), variant)


def by_hand(project: Path, variant: str) -> Start:
    """Run the job of a launched variant again by torchrun."""
    rundir = rundir_of(project, variant)
    for name in ("progress.json", "outcome.json", "measurements.jsonl", "stop.json"):
        (rundir / name).unlink(missing_ok=True)
    shutil.rmtree(rundir / "checkpoints")
    (rundir / "checkpoints").mkdir()
    words = ["--standalone", "--nproc_per_node=2", "-m", "pipeline.train", str(rundir)]
    env = {**environment(), "PYTHONPATH": f"{project / 'jobs'}:{ROOT}"}
    return measured_start([*TORCHRUN, *words], project, env, variant)


def rundir_of(project: Path, variant: str) -> Path:
    """Return the run directory of a variant's recipe."""
    return project / "runs" / "bench" / variant / "0"


def measured_start(
    argv: Sequence[str], project: Path, env: Mapping[str, str], variant: str
) -> Start:
    """Run a command that trains a variant to its end; return what it took."""
    before, begun = children_cpu_s(), time.time()
    process = subprocess.Popen(
        argv, cwd=project, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    progress, first, peak = rundir_of(project, variant) / "progress.json", None, 0.0
    while process.poll() is None:
        if first is None and progress.exists() and progress.stat().st_mtime >= begun:
            first = time.time() - begun
        peak = max(peak, own_peak(process.pid))
        time.sleep(0.005 if first is None else 0.02)
    if first is None or process.returncode not in (0, 3):  # 3: no gate of this plan has a winner
        raise SystemExit(f"{' '.join(argv)} ended with exit code {process.returncode}")
    return Start(first, children_cpu_s() - before, peak)


def children_cpu_s() -> float:
    """Return the CPU seconds of all processes that this one has waited for, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def own_peak(pid: int) -> float:
    """Return the most memory a process itself has held so far, in MB; its children apart."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")), 0.0)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
