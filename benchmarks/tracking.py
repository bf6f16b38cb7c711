"""What W&B and the comparison page cost: `python benchmarks/tracking.py`.

Three figures:
    control    milliseconds of the launcher's own time an epoch (waking the tracker), median
    tracker    CPU seconds of the tracker's processes an epoch of 10 s, two trials at once; they
               run at low priority, so this bounds what they can take from training
    page       seconds to collect and build a comparison of 500 trials x 50 epochs
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from pipeline.report.compare.compare_record import collect
from pipeline.report.compare.page import build_page
from pipeline.shared.files import append_line, write_json
from pipeline.shared.measurement import Measurement
from pipeline.track.mirror import Mirror, start_mirror

EPOCHS = 12
TRIALS = 2


def main() -> None:
    """Print one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        control = control_ms(root / "control")
        cpu = tracker_cpu_s(root / "cpu")
        page_s, page_mb = page(root / "page")
    reported = {
        "control_ms_per_epoch": round(control, 3),
        "tracker_cpu_s_per_epoch": round(cpu, 4),
        "tracker_cpu_percent_of_10_s_epoch_on_all_cores": round(
            100 * cpu / 10 / (os.cpu_count() or 1), 3
        ),
        "page_s_500x50": round(page_s, 2),
        "page_mb_500x50": round(page_mb, 2),
    }
    print(json.dumps(reported))


def trial(sweep_dir: Path, number: int) -> Path:
    """Make a run directory as the launcher does."""
    folder = sweep_dir / "baseline" / str(number)
    folder.mkdir(parents=True)
    spec = {"sweep": sweep_dir.name, "variant": "baseline", "number": number, "epochs": 50}
    write_json(folder / "spec.json", {**spec, "created": "2026-01-01"}, durable=False)
    return folder


def measure(folder: Path, epoch: int) -> None:
    """Write one epoch's measurement."""
    m = Measurement(epoch=epoch, top1=0.88, rgb_top1=0.87, pose_top1=0.8, lr=0.003, loss=1.5)
    append_line(folder / "measurements.jsonl", m.to_line())


def control_ms(sweep_dir: Path) -> float:
    """Time the only call that a launch makes for an epoch."""
    folder = trial(sweep_dir, 0)
    mirror = start_mirror(sweep_dir, "offline")
    spent = []
    for epoch in range(1, EPOCHS + 1):
        measure(folder, epoch)
        before = time.perf_counter()
        mirror.trials_changed()
        spent.append(1000 * (time.perf_counter() - before))
        time.sleep(0.1)
    mirror.close(30)
    return statistics.median(spent)


def tracker_cpu_s(sweep_dir: Path) -> float:
    """CPU seconds an epoch of the tracker and wandb's own process, once both are up."""
    folders = [trial(sweep_dir, number) for number in range(TRIALS)]
    mirror = start_mirror(sweep_dir, "offline")
    for folder in folders:
        measure(folder, 1)
    mirror.trials_changed()
    time.sleep(8)
    before, epochs = _cpu(mirror), 6
    for epoch in range(2, 2 + epochs):
        for folder in folders:
            measure(folder, epoch)
        mirror.trials_changed()
        time.sleep(10)
    spent = _cpu(mirror) - before
    mirror.close(30)
    return spent / epochs


def _cpu(mirror: Mirror) -> float:
    """CPU seconds of the tracker's process and its children so far."""
    process = mirror.children[0].process
    assert process is not None
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if process.pid in (int(name.split()[0]), int(fields[1])):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def page(sweep_dir: Path) -> tuple[float, float]:
    """Seconds and megabytes of a large comparison."""
    for number in range(500):
        folder = trial(sweep_dir, number)
        lines = [Measurement(epoch=e, top1=0.8 + e / 1000, lr=0.003) for e in range(1, 51)]
        (folder / "measurements.jsonl").write_text("".join(m.to_line() for m in lines))
    before = time.perf_counter()
    text = build_page(collect(sweep_dir), sweep_dir / "compare.html")
    return time.perf_counter() - before, len(text) / 1e6


if __name__ == "__main__":
    main()
