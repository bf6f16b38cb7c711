"""Turns the metrics and losses of an epoch into the fields of its Measurement."""

import datetime
from typing import Any, Dict, List

from pipeline.shared.spec import TrialSpec
from pipeline.train.outcome import JobFailure


def mean_of(losses: List[Dict[str, float]]) -> Dict[str, float]:
    """Return the mean over ranks of each term that every rank has."""
    shared = [name for name in losses[0] if all(name in other for other in losses)]
    return {name: sum(rank[name] for rank in losses) / len(losses) for name in shared}


def measure(
    spec: TrialSpec, epoch: int, metrics: Dict[str, float], losses: Dict[str, float]
) -> Dict[str, Any]:
    """Return the fields of an epoch's Measurement; raise JobFailure if its metric is absent."""
    scalars = {name: float(value) for name, value in metrics.items() if is_number(value)}
    wanted = [spec.metric, *spec.branches.values()]
    absent = [name for name in wanted if name not in scalars]
    if absent:
        raise JobFailure(
            "no_metric",
            f'The validation has no metric "{absent[0]}". It has: {", ".join(sorted(scalars))}. '
            "Set objective.metric and objective.branches in the sweep file.",
        )
    fields = {f"{branch}_top1": scalars[name] for branch, name in spec.branches.items()}
    extra = {n: v for n, v in scalars.items() if n not in wanted}
    for name, value in losses.items():
        if name != "loss":
            extra[name if "loss" in name else f"train/{name}"] = value
    return {
        "epoch": epoch,
        "top1": scalars[spec.metric],
        "rgb_top1": fields.pop("rgb_top1", None),
        "pose_top1": fields.pop("pose_top1", None),
        "loss": losses.get("loss"),
        "extra": {**extra, **fields},
        "attempt": spec.attempt,
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def is_number(value: Any) -> bool:
    """Tell whether a metric is a single number of any of the kinds metrics come in."""
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not isinstance(value, str)
