"""What the GPUs of a trial did over all its epochs, from the samples by epoch (`gpus.jsonl`)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.shared.files import read_objects
from pipeline.shared.rundir import RunDir

Record = Mapping[str, Any]


def gpu_use(run: RunDir) -> dict[str, float | None] | None:
    """Return a trial's figures over all its GPUs, None where none were sampled.

    `use` and `idle` (share of samples below 10 %) are means over the samples, `peak_mib` is the
    most of one GPU, `wh` the sum. An epoch that was trained again counts each time.
    """
    gpus = list(_gpus(read_objects(run.gpus)))
    if not gpus:
        return None
    return {
        "use": _mean(gpus, "use"),
        "idle": _mean(gpus, "idle"),
        "peak_mib": max((g["peak_mib"] for g in gpus if _known(g, "peak_mib")), default=None),
        "wh": _total(gpus, "wh"),
    }


def _gpus(lines: Sequence[Record]) -> Iterator[Record]:
    for line in lines:
        found = line.get("gpus")
        yield from (g for g in found or () if isinstance(g, dict) and g.get("samples"))


def _known(gpu: Record, key: str) -> bool:
    return isinstance(gpu.get(key), int | float)


def _mean(gpus: Sequence[Record], key: str) -> float | None:
    known = [(float(g[key]), int(g["samples"])) for g in gpus if _known(g, key)]
    total = sum(samples for _, samples in known)
    return round(sum(value * samples for value, samples in known) / total, 4) if total else None


def _total(gpus: Sequence[Record], key: str) -> float | None:
    known = [float(g[key]) for g in gpus if _known(g, key)]
    return round(sum(known), 3) if known else None
