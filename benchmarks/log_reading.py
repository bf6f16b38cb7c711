"""How long a large log takes to read and how much memory: `python -m benchmarks.log_reading`.

Writes logs of 200 MB (or `--megabytes N`) into a temporary folder, reads each in a fresh
process and prints seconds and peak memory. Goal: under 5 s and 100 MB on two plain cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

STAMP = "2026/01/02 03:04:05 - mmengine - INFO - "
ITERATIONS = 2000
_READ = """
import json, resource, sys, time
from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.runner import examine
from pipeline.diagnose.read_log import read_log
began = time.process_time(), time.monotonic()
case = make_case(read_log(sys.argv[1]))
examine(case)
print(json.dumps({
    "cpu_s": time.process_time() - began[0], "wall_s": time.monotonic() - began[1],
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "epochs": len(case.values),
    "values_right": all(abs(v - (0.5 + p.epoch / 1e4)) < 1e-9 for p, v in case.values),
}))
"""


def training_lines() -> Iterator[str]:
    """A log that is nothing but training and validation lines: the most work a byte."""
    for epoch in range(1, 5000):
        for step in range(1, ITERATIONS + 1):
            yield (
                f"{STAMP}Epoch(train) [{epoch:>4}][{step:>4}/{ITERATIONS}]  lr: 9.8664e-06  "
                "eta: 0:00:00  time: 0.3933  data_time: 0.0083  memory: 8164  grad_norm: 6.7115  "
                "loss: 1.0204  top1_acc: 1.0000  top5_acc: 1.0000  loss_cls: 1.0204\n"
            )
        yield (
            f"{STAMP}Epoch(val) [{epoch}][40/40]    acc/top1: {0.5 + epoch / 1e4:.4f}  "
            "acc/mean1: 0.7758  data_time: 0.0132  time: 0.1371\n"
        )


def tensors() -> Iterator[str]:
    """A log in which every validation prints a large tensor."""
    row = "        [" + ", ".join(f"{i / 100:.4f}" for i in range(60)) + "],\n"
    for epoch in range(1, 5000):
        yield (
            f"{STAMP}Epoch(val) [{epoch}][40/40]    acc/top1: {0.5 + epoch / 1e4:.4f}  "
            "confusion_matrix/result: \ntensor([\n"
        )
        yield from [row] * 3600
        yield "])\n  data_time: 0.0132  time: 0.1371\n"


def scalars() -> Iterator[str]:
    """MMEngine's scalars.json."""
    for epoch in range(1, 5000):
        for step in range(1, ITERATIONS + 1):
            yield (
                json.dumps(
                    {
                        "lr": 0.001,
                        "data_time": 0.0384,
                        "grad_norm": 20.659,
                        "loss": 4.586286163330078,
                        "top1_acc": 0.0666,
                        "time": 0.6308598160743714,
                        "epoch": epoch,
                        "iter": step,
                        "memory": 5785,
                        "step": epoch * ITERATIONS + step,
                    }
                )
                + "\n"
            )
        yield json.dumps({"acc/top1": 0.5 + epoch / 1e4, "time": 0.2, "step": epoch}) + "\n"


KINDS: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "training lines": ("x.log", training_lines),
    "tensors": ("x.log", tensors),
    "scalars.json": ("scalars.json", scalars),
}


def write(path: Path, lines: Iterator[str], megabytes: int) -> None:
    """Write lines until the file has so many megabytes."""
    size = 0
    with path.open("w") as stream:
        for line in lines:
            size += stream.write(line)
            if size > megabytes * 1_000_000:
                return


def main() -> None:
    """Measure each kind of log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    megabytes = parser.parse_args().megabytes
    for kind, (name, lines) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write(path, lines(), megabytes)
            done = subprocess.run(
                [sys.executable, "-c", _READ, str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
        cost = json.loads(done.stdout)
        print(
            f"{kind:<15} {megabytes} MB: {cost['wall_s']:.2f} s ({cost['cpu_s']:.2f} s CPU), "
            f"peak {cost['peak_mb']:.0f} MB, {cost['epochs']} epochs, "
            f"values {'right' if cost['values_right'] else 'WRONG'}"
        )


if __name__ == "__main__":
    main()
