"""What a training log says, whatever wrote it: one point an epoch, and what it was set up to do.

Plain facts: `run.py` collects them, the readers of each format fill it, `rules` judges.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """What the log says about one epoch.

    Args:
        epoch: as logged, from 1; 0 is a validation before training.
        metrics: validation metrics by their logged name and in their logged unit.
        lr: learning rate at the first logged iteration of the epoch.
        lr_end: at its last logged iteration; equal to `lr` for a schedule by epoch.
        loss: mean of the training losses logged in the epoch.
        line: where the validation stands in the file, from 1; where training stands
            when the epoch has no validation.
    """

    epoch: int
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    lr: float | None = None
    lr_end: float | None = None
    loss: float | None = None
    line: int = 0


@dataclasses.dataclass(kw_only=True)
class Facts:
    """How the run was set up and how it ended, as far as the log tells; None: not told."""

    max_epochs: int | None = None
    val_interval: int | None = None
    base_lr: float | None = None
    schedulers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    load_from: str | None = None
    resumed_epoch: int | None = None
    early_stopping: dict[str, Any] | None = None
    save_best: str | None = None
    num_classes: int | None = None
    val_clips: int | None = None
    start_top1: float | None = None
    stop_message: tuple[int, str] | None = None
    stop_cause: str | None = None
    failure: str | None = None
    traceback: tuple[int, str] | None = None
    by_iteration: bool = False
    #: Every value of the configuration that is a literal, by top-level name.
    config: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def fill(self, other: "Facts", same_run: bool = True) -> None:
        """Take from `other` whatever is not known yet.

        Args:
            same_run: False for an earlier run that this one goes on from: how that one ended
                says nothing about this one.
        """
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) and (same_run or field.name not in _ENDS):
                setattr(self, field.name, getattr(other, field.name))


#: The facts about how a run ended.
_ENDS = frozenset({"stop_message", "stop_cause", "failure", "traceback"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One training run as its log tells it.

    Args:
        path: the file the points come from.
        format: what wrote it, in words.
        points: ascending by epoch, each epoch once.
        nan_loss: (epoch, line) of the first non-finite training loss.
        notes: what a reader of the result should know: joined runs, damage, doubts.
    """

    path: str
    format: str
    points: tuple[Point, ...] = ()
    facts: Facts = dataclasses.field(default_factory=Facts)
    nan_loss: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def validated(self) -> list[Point]:
        """The epochs that were validated."""
        return [point for point in self.points if point.metrics]

    @property
    def last_epoch(self) -> int:
        """The last epoch that is logged at all; 0 if none."""
        return self.points[-1].epoch if self.points else 0

    def metric_names(self) -> list[str]:
        """Every validation metric of the run, in the order of first appearance."""
        return list(dict.fromkeys(name for point in self.points for name in point.metrics))
