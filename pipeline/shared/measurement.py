"""One measurement: what one epoch of a trial gave, and its form on disk.

Both sides use this module, so it keeps to Python 3.8 and the standard library.
"""

import dataclasses
import json
import math
from typing import Any, Dict, Iterable, List, Optional, Sequence

#: Fields that are a number or not known.
NUMBERS = ("lr", "rgb_top1", "pose_top1", "loss", "seconds")
#: The value of the averaged weights at a search's check, in `extra`; and the seconds it took.
AVERAGED, AVERAGED_SECONDS = "averaged_top1", "averaged_seconds"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one finished epoch gave.

    Args:
        epoch: 1-based; 0 is the validation of the starting weights.
        top1: the objective metric, a fraction in [0, 1]; may be NaN.
        lr: learning rate in force during the epoch; None where it is not known (epoch 0).
        rgb_top1: the same metric of the RGB branch alone, if the model reports it.
        pose_top1: the same metric of the pose branch alone.
        loss: mean training loss of the epoch.
        extra: loss terms and other metrics by name.
        seconds: wall time of the epoch, training and validation.
        times: seconds of its parts on rank 0: `train`, of which `data` is the wait for samples;
            `val`; `checkpoint`, its writing. What was not measured is not there.
        attempt: which start of the job measured it, from 1.
        time: ISO 8601 with offset.
    """

    epoch: int
    top1: float
    lr: Optional[float] = None
    rgb_top1: Optional[float] = None
    pose_top1: Optional[float] = None
    loss: Optional[float] = None
    extra: Dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: Optional[float] = None
    times: Dict[str, float] = dataclasses.field(default_factory=dict)
    attempt: int = 1
    time: Optional[str] = None

    def to_line(self) -> str:
        """Return the JSON line (with its newline) that `measurements.jsonl` holds."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Measurement":
        """Parse one line; raise ValueError if it is not a measurement."""
        try:
            record = json.loads(line)
        except RecursionError:
            raise ValueError("nested beyond any measurement") from None
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        epoch, top1 = record.get("epoch"), record.get("top1")
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
            raise ValueError(f"epoch is {epoch!r}, not a whole number >= 0")
        if isinstance(top1, bool) or not isinstance(top1, (int, float)):
            raise ValueError(f"top1 is {top1!r}, not a number")
        for name in NUMBERS:
            if not isinstance(record.get(name), (int, float, type(None))):
                raise ValueError(f"{name} is {record[name]!r}, not a number")
        for name in ("extra", "times"):
            if not isinstance(record.get(name, {}), dict):
                raise ValueError(f"{name} is {record[name]!r}, not numbers by name")
        known = {field.name for field in dataclasses.fields(cls)}
        values: Dict[str, Any] = {k: v for k, v in record.items() if k in known}
        return cls(**values)

    @property
    def averaged(self) -> Optional[float]:
        """The value of the averaged weights, None where it was not read or is not finite.

        It only ranks trials at a check: it is never a result.
        """
        value = self.extra.get(AVERAGED)
        usable = isinstance(value, (int, float)) and math.isfinite(value)
        return float(value) if value is not None and usable else None

    @property
    def finite(self) -> bool:
        """Whether the objective metric is a usable number."""
        return math.isfinite(self.top1)


def parse_measurements(lines: List[str]) -> List[Measurement]:
    """Parse whole lines in order, leaving out those that are not measurements."""
    found = []
    for line in lines:
        try:
            found.append(Measurement.from_line(line))
        except (ValueError, TypeError):
            continue
    return found


def by_epoch(measurements: Iterable[Measurement]) -> List[Measurement]:
    """Sort by epoch and keep the first value of an epoch that was measured twice.

    Optuna keeps the first report of a step too, so both agree.
    """
    first: Dict[int, Measurement] = {}
    for measurement in measurements:
        first.setdefault(measurement.epoch, measurement)
    return [first[epoch] for epoch in sorted(first)]


def best_of(measurements: Sequence[Measurement]) -> Optional[Measurement]:
    """Return the measurement with the highest finite top-1, the first of equals."""
    finite = [m for m in measurements if m.finite]
    return max(finite, key=lambda m: (m.top1, -m.epoch)) if finite else None


def best_trained(history: Iterable[Measurement]) -> Optional[Measurement]:
    """Return the best trained epoch, the first of equals; epoch 0 is not a result."""
    return best_of([m for m in by_epoch(history) if m.epoch > 0])
