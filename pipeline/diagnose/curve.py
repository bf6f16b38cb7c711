"""What a training log says, whatever wrote it: one point an epoch, and the run's setup.

The readers of each format fill a `LogRun` for each start of the program; `join` makes one `Curve`
of them, which the rules judge.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.shared.counted import counted


def in_line(line: int) -> str:
    """Return " (line 3)"; "" for a record without a line of its own."""
    return f" (line {line})" if line else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """What the log says about one epoch.

    Args:
        epoch: as logged, from 1; 0 is a validation before training.
        metrics: validation metrics by their logged name and in their logged unit.
        lr: learning rate at the first logged iteration of the epoch.
        lr_end: at its last logged iteration; equal to `lr` for a schedule by epoch.
        loss: mean of the training losses logged in the epoch.
        train_top1: mean of the training accuracies logged in it, in the log's unit.
        nan_loss: whether one of its training losses is not finite.
        line: where the validation stands in the file, from 1; where training stands
            when the epoch has no validation.
    """

    epoch: int
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    lr: float | None = None
    lr_end: float | None = None
    loss: float | None = None
    train_top1: float | None = None
    nan_loss: bool = False
    line: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a log of `tools/test.py` holds.

    Args:
        done: batches tested.
        total: batches there are; 0 if the log does not show it.
        metrics: the result by name, in the log's unit; empty before its last batch.
    """

    done: int
    total: int
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the result is there."""
        return bool(self.metrics) or 0 < self.total <= self.done


@dataclasses.dataclass(kw_only=True)
class Facts:
    """How the run was set up and how it ended, as far as the log shows; None: unknown."""

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
    val_iterations: int | None = None
    #: The most steps of training that the log shows, over all epochs.
    steps: int | None = None
    val_batch: int | None = None
    gpus: int | None = None
    #: How the log names the rate, and the first (epoch, that rate, its other rate) that differ.
    lr_field: str | None = None
    lr_differs: tuple[int, float, float] | None = None
    test: Evaluation | None = None
    #: (epoch, line) of a validation whose line has no metric.
    no_metric: tuple[int, int] | None = None
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
            same_run: False for an earlier run that this one continues: how that one ended
                does not count here.
        """
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) and (same_run or field.name not in _ENDS):
                setattr(self, field.name, getattr(other, field.name))


#: The facts about how a run ended.
_ENDS = frozenset({"stop_message", "stop_cause", "failure", "traceback"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One training run as its log shows it.

    Args:
        path: the file the points come from.
        format: what wrote it, in words.
        points: ascending by epoch, each epoch once.
        nan_loss: (epoch, line) of the first non-finite training loss.
        notes: remarks for the reader: joined runs, damage, doubts.
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


#: More epochs than this in one run are damage, not training; further ones are left out.
MOST_EPOCHS = 100_000


@dataclasses.dataclass(slots=True)
class _Epoch:
    """The growing record of one epoch."""

    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    lr: float | None = None
    lr_end: float | None = None
    loss_sum: float = 0.0
    losses: int = 0
    train_top1_sum: float = 0.0
    train_top1s: int = 0
    nan_loss: bool = False
    line: int = 0


class LogRun:
    """One start of a training program, collected in the order its log was written."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.has_header = False
        self.nan_loss: tuple[int, int] | None = None
        self.notes: list[str] = []
        self._epochs: dict[int, _Epoch] = {}
        self._last_trained: int | None = None
        self._last_validated = 0
        #: How often an epoch was validated and the last line of it, for those with several.
        self._again: dict[int, tuple[int, int]] = {}
        self._note_of_again = ""
        #: The number that the last training iteration has over all epochs, if it is logged.
        self.last_step: int | None = None

    def __bool__(self) -> bool:
        return bool(self._epochs)

    def has(self, epoch: int) -> bool:
        """Whether anything of the epoch is known."""
        return epoch in self._epochs

    def train(
        self,
        epoch: int,
        lr: float | None,
        loss: float | None,
        line: int,
        top1: float | None = None,
    ) -> None:
        """Add one logged training iteration.

        Args:
            top1: its training accuracy, in the log's unit.
        """
        if epoch < self._last_validated and epoch in self._epochs:
            self._go_back(epoch, line)
        record = self._record(epoch)
        self._last_trained = max(epoch, self._last_trained or 0)
        if not record.metrics:
            record.line = line
        if lr is not None and math.isfinite(lr):
            record.lr = lr if record.lr is None else record.lr
            record.lr_end = lr
        if top1 is not None and math.isfinite(top1):
            record.train_top1_sum += top1
            record.train_top1s += 1
        if loss is None:
            return
        if math.isfinite(loss):
            record.loss_sum += loss
            record.losses += 1
        else:
            record.nan_loss = True
            self.nan_loss = self.nan_loss or (epoch, line)

    def rate(self, epoch: int, field: str, shown: float | None, other: float | None) -> None:
        """Keep how the log names the rate that is shown, and where its other rate differs."""
        self.facts.lr_field = self.facts.lr_field or field
        if None not in (shown, other) and shown != other and self.facts.lr_differs is None:
            assert shown is not None and other is not None
            self.facts.lr_differs = (epoch, shown, other)

    def validate(self, epoch: int, metrics: Mapping[str, float], line: int) -> None:
        """Add the metrics of one validation; a second, different one replaces the first.

        An epoch is validated twice when a killed job is started again in the same file:
        training continued from the later weights. One before the last belongs to a run that began
        again without a line of its training.
        """
        if not metrics:
            return
        record = self._record(epoch)
        differing = [
            k for k, v in metrics.items() if k in record.metrics and record.metrics[k] != v
        ]
        if any(not _both_nan(record.metrics[name], metrics[name]) for name in differing):
            if epoch < self._last_validated:
                self._go_back(epoch, line)
                record = self._record(epoch)
            else:
                self._note_again(epoch, line)
                record.metrics.clear()
        record.metrics.update(metrics)
        record.line = line
        self._last_validated = max(epoch, self._last_validated)

    def _note_again(self, epoch: int, line: int) -> None:
        """Say in one note which epochs were validated more than once."""
        self._again[epoch] = (self._again.get(epoch, (1, 0))[0] + 1, line)
        times, line = self._again[epoch]
        if len(self._again) > 1:
            many = counted(len(self._again), "epoch")
            text = f"{many} were validated more than once; the last values of each count"
        elif times > 2:
            text = (
                f"epoch {epoch} was validated {times} times; the last values{in_line(line)} count"
            )
        else:
            text = f"epoch {epoch} was validated twice; the later values{in_line(line)} count"
        if self._note_of_again in self.notes:
            self.notes[self.notes.index(self._note_of_again)] = text
        else:
            self.note(text)
        self._note_of_again = text

    def in_order(self, epoch: int, line: int) -> None:
        """Take a line of an epoch before the last validated one for a start from there again."""
        if epoch < self._last_validated:
            self._go_back(epoch, line)

    def leave_out(self, epoch: int) -> None:
        """Forget one epoch, which is not part of the training."""
        self._epochs.pop(epoch, None)

    def _go_back(self, epoch: int, line: int) -> None:
        """Leave out the epochs from `epoch` on: training begins there again in the same file."""
        left_out = [other for other in self._epochs if other >= epoch]
        self.note(
            f"training goes back from epoch {max(left_out)} to epoch {epoch}{in_line(line)}; what "
            f"was logged of epochs {epoch}-{max(left_out)} before that is left out"
        )
        for other in left_out:
            del self._epochs[other]
        self._last_trained = max(self._epochs, default=None)
        self._last_validated = max((e for e, r in self._epochs.items() if r.metrics), default=0)
        if self.nan_loss and self.nan_loss[0] >= epoch:
            self.nan_loss = None
        self.facts.stop_message = None

    @property
    def began_at_zero(self) -> bool:
        """Whether epoch 0 was trained; else it is the check of the starting weights."""
        first = self._epochs.get(0)
        return first is not None and (first.losses > 0 or first.nan_loss)

    def count_from_one(self) -> None:
        """Renumber epochs that the log counts from 0."""
        self._epochs = {epoch + 1: record for epoch, record in self._epochs.items()}
        if self.nan_loss:
            self.nan_loss = (self.nan_loss[0] + 1, self.nan_loss[1])
        text = "the file counts its epochs from 0; they are shown from 1"
        if any("epoch" in note for note in self.notes):
            text += "; the following notes have the file's numbers"
        self.notes.insert(0, text)

    @property
    def last_trained(self) -> int | None:
        """The highest epoch with a training iteration so far."""
        return self._last_trained

    def clear(self) -> None:
        """Forget the epochs."""
        self._epochs.clear()

    def note(self, text: str) -> None:
        """Add a note once, up to 20 notes."""
        if text not in self.notes and len(self.notes) < 20:
            self.notes.append(text)

    def points(self) -> list[Point]:
        """Return the finished points, ascending."""
        return [_freeze(epoch, self._epochs[epoch]) for epoch in sorted(self._epochs)]

    def _record(self, epoch: int) -> _Epoch:
        record = self._epochs.get(epoch)
        if record is None:
            record = _Epoch()
            if len(self._epochs) < MOST_EPOCHS:
                self._epochs[epoch] = record
            else:
                self.note(f"more than {counted(MOST_EPOCHS, 'epoch')}; the rest is left out")
        return record


def _both_nan(a: float, b: float) -> bool:
    return math.isnan(a) and math.isnan(b)


def _freeze(epoch: int, record: _Epoch) -> Point:
    return Point(
        epoch=epoch,
        metrics=dict(record.metrics),
        lr=record.lr,
        lr_end=record.lr_end,
        loss=record.loss_sum / record.losses if record.losses else None,
        train_top1=record.train_top1_sum / record.train_top1s if record.train_top1s else None,
        nan_loss=record.nan_loss,
        line=record.line,
    )


def join(runs: Iterable[LogRun], path: str, format: str) -> Curve:
    """Make one curve of the newest run and of the earlier ones it continues.

    Args:
        runs: in the order they were started, each run's epochs counted from the very
            beginning (as MMEngine and MMCV count them after a resume).
    """
    with_epochs = [run for run in runs if run] or list(runs)[-1:] or [LogRun()]
    newest = with_epochs[-1]
    points, facts, notes = newest.points(), newest.facts, list(newest.notes)
    nan_loss, used = newest.nan_loss, 1
    for earlier in reversed(with_epochs[:-1]):
        last = _continues_after(newest, points)
        if last is None:
            break
        points = [p for p in earlier.points() if p.epoch <= last] + points
        if earlier.nan_loss and earlier.nan_loss[0] <= last:
            nan_loss = earlier.nan_loss
        facts.fill(earlier.facts, same_run=False)
        notes += [note for note in earlier.notes if note not in notes]
        newest, used = earlier, used + 1
    notes += _about_the_rate(facts)
    if facts.max_epochs is not None and points and points[-1].epoch > facts.max_epochs:
        facts.max_epochs = None  # that of an earlier start, which a later one raised unseen
    # The first run shows what training started from; a resumed one loads its own state.
    facts.load_from = None if newest.facts.resumed_epoch else newest.facts.load_from
    facts.resumed_epoch = newest.facts.resumed_epoch
    if used > 1:
        notes.append(f"{used} runs joined across resumes")
    if left_out := len(with_epochs) - used:
        run = counted(left_out, "earlier run")
        verb = "is" if left_out == 1 else "are"
        notes.append(f"{run} that the newest does not continue {verb} left out")
    return Curve(
        path=path,
        format=format,
        points=tuple(points),
        facts=facts,
        nan_loss=nan_loss,
        notes=tuple(notes),
    )


def _about_the_rate(facts: Facts) -> list[str]:
    """Say which rate is shown where a log has more than one."""
    if facts.lr_field is None or facts.lr_field == "lr":
        return []
    if facts.lr_differs is None:
        return [f"the lr shown is the log's {facts.lr_field}"]
    epoch, shown, other = facts.lr_differs
    return [
        f"the lr shown is the log's {facts.lr_field}, not its lr (of the first parameter group): "
        f"{shown:g} and {other:g} in epoch {epoch}"
    ]


def _continues_after(run: LogRun, points: list[Point]) -> int | None:
    """Return the last epoch of an earlier run that `run` continues, or None."""
    if run.facts.resumed_epoch is not None:
        return run.facts.resumed_epoch
    first = points[0].epoch if points else 1
    # A rotated log starts in the middle: no header, and its epochs continue.
    return first - 1 if not run.has_header and first > 1 else None
