"""Cost of reading and reporting many trials, as ratios to parsing their JSON lines once.

    python benchmarks/report.py [--trials 500] [--epochs 50]

Prints one JSON object: processor seconds of the reader's columns, of the comparison's record and
of a report's folder, each also over the time that `json.loads` takes for the same lines.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.report.compare.compare_record import collect
from pipeline.report.paper.report_folder import write_report
from pipeline.results import open_sweep
from pipeline.shared.measurement import Measurement
from pipeline.shared.spec import TrialSpec


def write_trials(runs: Path, trials: int, epochs: int) -> None:
    """Write run directories of ten variants, their curves complete."""
    for at in range(trials):
        variant, number = f"variant{at % 10}", at // 10
        folder = runs / variant / str(number)
        folder.mkdir(parents=True)
        spec = TrialSpec(
            sweep=runs.name, variant=variant, number=number, epochs=epochs, metric="acc/top1"
        )
        (folder / "spec.json").write_text(json.dumps(spec.to_json()))
        curve = (
            Measurement(epoch=e, top1=0.5 + 0.4 * e / epochs + at / 1e5, lr=0.1 / e, loss=1 / e)
            for e in range(1, epochs + 1)
        )
        (folder / "measurements.jsonl").write_text("".join(m.to_line() for m in curve))
        (folder / "outcome.json").write_text(json.dumps({"state": "COMPLETE", "reason": "done"}))
        (folder / "facts.json").write_text(json.dumps({"val_clips": 2000}))


def cost(work: Callable[[], Any]) -> float:
    """Return the processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def parse_all(runs: Path) -> None:
    for file in sorted(runs.glob("*/*/measurements.jsonl")):
        for line in file.read_text().splitlines():
            json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs" / "many"
        write_trials(runs, options.trials, options.epochs)
        unit = cost(lambda: parse_all(runs))
        seconds = {"reader": cost(lambda: open_sweep(runs).columns("epochs"))}
        data: dict[str, Any] = {}
        seconds["record"] = cost(lambda: data.update(collect(runs)))
        seconds["report"] = cost(lambda: write_report(data, runs, Path(folder) / "out"))
    ratios = {name: round(value / unit, 1) for name, value in seconds.items()}
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    print(json.dumps({**vars(options), "json_s": round(unit, 2), **rounded, "ratios": ratios}))


if __name__ == "__main__":
    main()
