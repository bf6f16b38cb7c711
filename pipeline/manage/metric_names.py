"""Which metrics a config's validation gives, and which of them a plan is judged by."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.diagnose.series import likely_metric
from pipeline.errors import InputError

#: What AccMetric of MMAction2 1.x gives for each entry of `metric_list`; top-k are by its options.
_MEAN = {"mean_class_accuracy": "mean1"}
_TOP_K = "top_k_accuracy"
#: The sums of its two streams that AccMetric adds to theirs (mmaction2 1.2.0, acc_metric.py).
_FUSED = ("RGBPose_1:1", "RGBPose_2:1", "RGBPose_1:2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricNames:
    """The metrics of a validation.

    Args:
        names: as logs have them; empty if none is known.
        all_known: whether there can be no other.
    """

    names: Sequence[str]
    all_known: bool


def evaluated(facts: Mapping[str, Any]) -> MetricNames:
    """Return the names that MMAction2's own AccMetric gives for a config.

    Args:
        facts: `val_evaluator` and `head_streams` of the resolved config.
    """
    listed = facts.get("val_evaluator")
    entries = [listed] if isinstance(listed, Mapping) else list(listed or ())
    kinds = [str(e.get("type")).rsplit(".", 1)[-1] for e in entries if isinstance(e, Mapping)]
    own = [e for e, kind in zip(entries, kinds, strict=False) if kind == "AccMetric"]
    known = [_of_accuracy(entry, facts.get("head_streams") or ()) for entry in own]
    return MetricNames(
        names=[name for one in known for name in one.names],
        all_known=set(kinds) <= {"AccMetric", "DumpResults"} and all(o.all_known for o in known),
    )


def _of_accuracy(entry: Mapping[str, Any], streams: Sequence[str]) -> MetricNames:
    listed = entry.get("metric_list", (_TOP_K, "mean_class_accuracy"))
    listed = [listed] if isinstance(listed, str) else list(listed)
    options = (entry.get("metric_options") or {}).get(_TOP_K) or {}
    top = options.get("topk", (1, 5))
    tops = [f"top{k}" for k in ([top] if isinstance(top, int) else top)]
    kinds = [n for one in listed for n in (tops if one == _TOP_K else [_MEAN.get(one)]) if n]
    prefix = entry.get("prefix") or "acc"
    fused = _FUSED if {"rgb", "pose"} <= set(streams) else ()
    items = [f"{stream}_" for stream in (*fused, *streams)] or [""]
    names = [f"{prefix}/{item}{kind}" for item in items for kind in kinds]
    return MetricNames(names=names, all_known={*listed} <= {_TOP_K, *_MEAN})


def objective(
    facts: Mapping[str, Any], known: MetricNames, saved_by: str | None
) -> tuple[str, list[str]]:
    """Return the metric to maximise, and sentences on names that the validation does not give.

    It is what the config saves its best by or stops by, else the fused top-1, else a top-1.

    Args:
        facts: `watched` of the resolved config.
        saved_by: the metric that an earlier run's log says the best was saved by.

    Raises:
        InputError: no name is known.
    """
    watched, names = facts.get("watched") or {}, list(known.names)
    best = [*([saved_by] if saved_by and saved_by != "auto" else []), *watched.get("best", ())]
    stop = list(watched.get("stop", ()))
    # MMEngine fails on a name to save by that is not there; one to stop by it only warns of.
    trusted = [one for one in best if one in names or not known.all_known]
    trusted += [one for one in stop if one in names or not names]
    whole = [one for one in names if one.endswith("1:1_top1")]
    top1 = [one for one in names if "top1" in one and not _branch_of(one)]
    likely = likely_metric(names)
    found = [*trusted, *whole, *top1, *([likely] if likely is not None else [])]
    if not found and names:
        raise InputError(
            f"Of the validation's metrics ({', '.join(names)}) none is an accuracy, by its name. "
            "Name one that rises as the model improves: --metric NAME"
        )
    if not found:
        raise InputError(
            "The names of the validation's metrics are not known: the config names none, its "
            "evaluator's are not those of MMAction2's AccMetric, and its data are not found. Name "
            "the one to judge by as a log's validation line has it: --metric NAME; or an earlier "
            "run of it: --log WORKDIR"
        )
    absent = [one for one in dict.fromkeys([*best, *stop]) if known.all_known and one not in names]
    notes = [
        f'The config watches "{one}", which its validation does not give. It gives: '
        f"{', '.join(names)}."
        for one in absent
    ]
    return found[0], notes


def _branch_of(name: str) -> str | None:
    """Return "rgb" or "pose" where a metric is that branch's own."""
    words = re.split(r"[/_.\s]", name.lower())
    found = [branch for branch in ("rgb", "pose") if branch in words]
    return found[0] if len(found) == 1 else None


def branches(names: Sequence[str], metric: str) -> dict[str, str]:
    """Return the metric of each branch, of the objective's kind where there are several."""
    kind = re.split("[/_]", metric)[-1]
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda one: not one.endswith(kind)):
        branch = _branch_of(name)
        if branch is not None and name != metric:
            found.setdefault(branch, name)
    return found
