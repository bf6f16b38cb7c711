"""What a trial's run directory shows of its hours: a GPU that waits, is shared, or slows down.

Only a trial has these figures; a log of another program does not. They cost hours, not accuracy.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.diagnose.log_case import Finding, LogCase, note, warning
from pipeline.shared.files import read_objects
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir

#: Share of an epoch's training spent on waiting for samples from which on it is named.
STARVED = 0.25
#: Share of an epoch's samples in which a GPU was slowed down from which on it is named.
SLOWED = 0.10
#: Difference of the mean use of two GPUs from which on they count as unequal.
UNEQUAL = 0.25
#: Fewer samples of a GPU than this show nothing about an epoch.
FEWEST_SAMPLES = 4


def hardware_rules(folder: Path) -> list[Callable[[LogCase], Iterator[Finding]]]:
    """Return the rules over a trial's run directory."""
    run = RunDir(folder)

    def rule(_case: LogCase) -> Iterator[Finding]:
        epochs = _latest_by_epoch(read_objects(run.gpus))
        yield from starved(run.read_measurements(), epochs)
        yield from slowed_down(epochs)
        yield from shared(epochs)
        yield from unequal(epochs)

    return [rule]


def _latest_by_epoch(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the last record of each epoch that has GPUs with enough samples."""
    latest = {r.get("epoch"): r for r in records if isinstance(r.get("gpus"), list)}
    return [
        latest[epoch] for epoch in sorted(latest, key=lambda e: e if isinstance(e, int) else 0)
    ]


def _gpus(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [g for g in record["gpus"] if g.get("samples", 0) >= FEWEST_SAMPLES]


def starved(
    measurements: Sequence[Measurement], epochs: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    """Training waits for samples: the median over the epochs after the first, which fills caches.

    The wait is measured in the job; where GPUs were sampled, their use is said beside it.
    """
    shares = [
        (m.epoch, m.times["data"] / m.times["train"])
        for m in measurements
        if m.epoch > 0 and m.times.get("train", 0) > 0 and "data" in m.times
    ]
    counted = shares[1:] or shares
    if not counted:
        return
    share = statistics.median(value for _, value in counted)
    if share < STARVED:
        return
    use = [g["use"] for record in epochs for g in _gpus(record) if g.get("use") is not None]
    whom = "GPU waits" if use else "training waits"
    busy = (
        f"; the GPUs were at work {100 * statistics.fmean(use):.0f} % of the time" if use else ""
    )
    yield warning(
        "gpu_starved",
        max(counted, key=lambda pair: pair[1])[0],
        f"the {whom} {100 * share:.0f} % of the training of an epoch for samples (median of "
        f"{len(counted)} epochs){busy}",
        "Read prepared clips: pcan data prepare, then data: {store: prepared}. With prepared "
        "clips already: more loader processes (--set train_dataloader.num_workers=N), or a "
        "faster disk.",
    )


def slowed_down(epochs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """A GPU runs below its clock because of heat or its power supply."""
    for key, words, remedy in (
        ("heat", "heat", "Check its cooling, and what else runs in that machine."),
        ("supply", "its power supply", "Check the machine's power supply and its cables."),
    ):
        found = [
            (g[key], record["epoch"], g)
            for record in epochs
            for g in _gpus(record)
            if (g.get(key) or 0) >= SLOWED
        ]
        if found:
            share, epoch, gpu = max(found, key=lambda item: item[0])
            hot = f", {gpu['celsius']:.0f} °C" if gpu.get("celsius") is not None else ""
            yield warning(
                "gpu_throttled",
                epoch,
                f"GPU {gpu['index']} was slowed down by {words} in {100 * share:.0f} % of the "
                f"samples of epoch {epoch}{hot}; {len(found)} of {len(epochs)} epochs are like it",
                remedy,
            )


def shared(epochs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Another process holds memory of a GPU that the trial trains on."""
    found = [(r["epoch"], g) for r in epochs for g in r["gpus"] if g.get("others")]
    if found:
        epoch, gpu = found[0]
        yield warning(
            "gpu_shared",
            epoch,
            f"GPU {gpu['index']} was also used by {', '.join(gpu['others'])} ({len(found)} "
            "readings in all)",
            "Its memory and time are shared: an epoch takes longer and may run out of memory. "
            "Other GPUs: --gpus; wait for free ones: --wait.",
        )


def unequal(epochs: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Two GPUs of one trial are at work for very different shares: one waits for the other."""
    spans = [
        (max(used) - min(used), record["epoch"], record)
        for record in epochs
        if len(used := [g["use"] for g in _gpus(record) if g.get("use") is not None]) > 1
    ]
    if len(spans) < 2 or statistics.median(span for span, _, _ in spans) < UNEQUAL:
        return
    _, epoch, record = max(spans, key=lambda item: item[0])
    uses = ", ".join(f"GPU {g['index']} {100 * g['use']:.0f} %" for g in _gpus(record))
    yield note(
        "gpu_unequal",
        epoch,
        f"the GPUs of the trial are not equally at work: {uses} in epoch {epoch}",
        "The slower one sets the pace of both. Look for another process on it (nvidia-smi), "
        "another model of GPU, or a slower slot.",
    )
