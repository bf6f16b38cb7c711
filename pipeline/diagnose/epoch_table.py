"""The monitoring of a run as rows: lr and accuracies by epoch, the best, the gates' verdicts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.diagnose.curve import Point
from pipeline.diagnose.log_case import LogCase
from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.verdict import VerdictKind, percent
from pipeline.shared.rundir import RunDir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One epoch; accuracies are fractions, None where the log has none.

    Args:
        non_finite: which of "loss" and "top1" are not finite numbers in the log.
    """

    epoch: int
    lr: float | None
    top1: float | None
    rgb_top1: float | None
    pose_top1: float | None
    loss: float | None
    best: bool
    non_finite: tuple[str, ...] = ()
    verdict: str | None = None
    reason: str | None = None
    line: int = 0


def epoch_rows(case: LogCase, verdicts: Mapping[int, tuple[str, str]] | None = None) -> list[Row]:
    """Return the logged epochs.

    Args:
        verdicts: (verdict, reason) by epoch.
    """
    verdicts = verdicts or {}
    fused = _by_epoch(case, None)
    branches = {name: _by_epoch(case, name) for name in ("rgb", "pose")}
    best = case.series.best if case.series else None
    return [
        Row(
            epoch=point.epoch,
            lr=point.lr,
            top1=fused.get(point.epoch),
            rgb_top1=branches["rgb"].get(point.epoch),
            pose_top1=branches["pose"].get(point.epoch),
            loss=point.loss,
            best=best is not None and point.epoch == best[0].epoch,
            non_finite=_non_finite(case, point),
            verdict=verdicts.get(point.epoch, (None, None))[0],
            reason=verdicts.get(point.epoch, (None, None))[1],
            line=point.line,
        )
        for point in case.curve.points
    ]


def _non_finite(case: LogCase, point: Point) -> tuple[str, ...]:
    value = point.metrics.get(case.series.metric, 0.0) if case.series else 0.0
    found = {"loss": point.nan_loss, "top1": not math.isfinite(value)}
    return tuple(name for name, lost in found.items() if lost)


def judged(case: LogCase, rules: Rules) -> dict[int, tuple[str, str]]:
    """Return the rules' verdict after each validated epoch, up to the first that stops the run."""
    verdicts = judge_all(case.series.measurements(), rules) if case.series else []
    return {verdict.epoch: (verdict.kind.value, verdict.reason) for verdict in verdicts}


def recorded(folder: Path) -> dict[int, tuple[str, str]]:
    """Return the verdicts recorded while a trial ran, by epoch."""
    verdicts: dict[int, tuple[str, str]] = {}
    for entry in RunDir(folder).read_verdicts():
        try:
            verdicts[int(entry["epoch"])] = (str(entry["verdict"]), str(entry["reason"]))
        except (ValueError, KeyError, TypeError):
            continue
    return verdicts


def chart(case: LogCase, width: int = 60, height: int = 8) -> str:
    """Draw the fused metric (*) and the branches (r, p) over the epochs; "" if too little."""
    drawn: list[tuple[str, list[tuple[Point, float]]]] = [
        (branch[0], series.finite) for branch, series in case.branches.items()
    ]
    drawn.append(("*", case.values))
    values = [value for _, pairs in drawn for _, value in pairs]
    epochs = [point.epoch for _, pairs in drawn for point, _ in pairs]
    if len(case.values) < 2:
        return ""
    low, high, first, last = min(values), max(values), min(epochs), max(epochs)
    columns = min(width, last - first + 1)
    grid = [[" "] * columns for _ in range(height)]
    for mark, pairs in drawn:
        for point, value in pairs:
            x = round((point.epoch - first) / max(1, last - first) * (columns - 1))
            y = round((value - low) / (high - low) * (height - 1)) if high > low else 0
            grid[height - 1 - y][x] = mark
    labels = [f"{percent(high):>9}", *[" " * 9] * (height - 2), f"{percent(low):>9}"]
    body = [f"{label} |{''.join(line)}" for label, line in zip(labels, grid, strict=True)]
    legend = "  r rgb, p pose, * fused" if case.branches else ""
    room = max(len(str(last)) + 1, columns - len(str(first)))
    axis = f"{'epoch':>9}  {first}{str(last).rjust(room)}{legend}"
    return "\n".join([*body, axis])


def text(rows: Sequence[Row]) -> str:
    """Return the rows as an aligned table; empty columns are left out."""
    columns: list[tuple[str, list[str]]] = [
        ("epoch", [str(row.epoch) for row in rows]),
        ("lr", [_number(row.lr) for row in rows]),
        ("loss", [_loss(row) for row in rows]),
        ("top-1", ["nan" if "top1" in row.non_finite else _percent(row.top1) for row in rows]),
        ("", ["best" if row.best else "" for row in rows]),
        ("rgb", [_percent(row.rgb_top1) for row in rows]),
        ("pose", [_percent(row.pose_top1) for row in rows]),
    ]
    kept = [(name, cells) for name, cells in columns if any(cells) or name == "top-1"]
    widths = [max(len(name), *map(len, cells), 0) for name, cells in kept]
    header = "  ".join(name.rjust(w) for (name, _), w in zip(kept, widths, strict=True))
    lines = [header]
    for i, row in enumerate(rows):
        cells = "  ".join(c[i].rjust(w) for (_, c), w in zip(kept, widths, strict=True))
        verdict = (
            f"  {row.verdict}: {row.reason}"
            if row.verdict not in (None, VerdictKind.GO.value)
            else ""
        )
        lines.append((cells + verdict).rstrip())
    return "\n".join(lines)


def record(case: LogCase, rows: Sequence[Row]) -> dict[str, Any]:
    """Return `pcan log --json`."""
    best = case.series.best if case.series else None
    return {
        "schema": 1,
        "log": case.curve.path,
        "format": case.curve.format,
        "metric": case.series.metric if case.series else None,
        "best_epoch": best[0].epoch if best else None,
        "best_top1": best[1] if best else None,
        "epochs": [dataclasses.asdict(row) for row in rows],
        "notes": [*case.curve.notes, *case.notes],
    }


def _by_epoch(case: LogCase, branch: str | None) -> dict[int, float]:
    chosen = case.series if branch is None else case.branches.get(branch)
    if chosen is None:
        return {}
    pairs = zip(chosen.points, chosen.values, strict=True)
    return {point.epoch: value for point, value in pairs if value == value}


def _percent(value: float | None) -> str:
    return percent(value) if value is not None else ""


def _loss(row: Row) -> str:
    """Return an epoch's loss; one with a non-finite loss says so, whatever the others were."""
    if "loss" in row.non_finite:
        return "nan"
    return f"{row.loss:.4f}" if row.loss is not None else ""


def _number(value: float | None) -> str:
    return f"{value:.3g}" if value is not None else ""
