"""What thousands of trials cost: `status`, `watch`, `best`, `compare`; claims, reports and ends.

Run: `python benchmarks/scale.py [--postgres URL]`. Without a URL on SQLite. Commands are whole
processes; workers are simulated as rows over few connections
(`tests/support/simulated_workers.py`).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import simulated_workers  # noqa: E402
from pipeline.study.db.storage import open_storage  # noqa: E402

TRIALS, EPOCHS, VARIANTS, RUNNING = 10_000, 30, 10, 1_000


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postgres", metavar="URL", help="an empty database")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--run", type=int, default=5_000, help="how many of them workers run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "sweeps").mkdir()
        (project / "wandb.yaml").write_text((ROOT / "wandb.yaml").read_text())
        url = given.postgres or f"sqlite:///{project}/crowd.db"
        sweep = simulated_workers.write_sweep(project / "sweeps", VARIANTS)
        storage = open_storage(url, project)
        simulated_workers.enqueue(sweep, storage, given.run // VARIANTS)
        if given.postgres:
            load(sweep, url, workers=200, connections=16)
        else:
            load(sweep, url, workers=50, connections=4)
        simulated_workers.enqueue(sweep, storage, given.trials // VARIANTS)
        simulated_workers.finish_all(sweep, storage, EPOCHS, RUNNING)
        storage.close()
        for words in ("status", "watch", "best", "compare"):
            command(project, url, words)


def load(sweep, url: str, workers: int, connections: int) -> None:
    """Let simulated workers run every trial; an epoch of theirs lasts two seconds."""
    many = simulated_workers.Crowd(sweep, url, workers, connections, epochs=3, epoch_s=2.0)
    begun = time.perf_counter()
    many.run()
    took = time.perf_counter() - begun
    print(f"{workers} workers, {connections} connections, {len(many.ended)} trials: {took:.0f} s")
    for kind, seconds in many.seconds.items():
        p50, p95 = (1000 * simulated_workers.percentile(seconds, share) for share in (0.5, 0.95))
        print(f"  {kind:<8} {len(seconds):>7} calls  p50 {p50:6.1f} ms  p95 {p95:6.1f} ms")


def command(project: Path, url: str, name: str) -> None:
    """Run one command with --json; print its time and the most memory it held."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PCAN_STORAGE": url}
    words = [sys.executable, "-m", "pipeline.cli.main", "sweep", name, "crowd", "--json"]
    out = project / f"{name}.json"
    begun = time.perf_counter()
    with open(out, "wb") as stream:
        process = subprocess.Popen(words, cwd=project, env=env, stdout=stream)
        _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    size = out.stat().st_size / 1e6
    print(
        f"sweep {name:<8} {took:6.2f} s ({usage.ru_utime + usage.ru_stime:.2f} s CPU) "
        f"{usage.ru_maxrss / 1024:6.0f} MB  {size:.1f} MB of JSON, exit code {process.returncode}"
    )


if __name__ == "__main__":
    main()
