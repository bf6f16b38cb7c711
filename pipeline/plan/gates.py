"""Gates: what a sweep file checks at one epoch, one class for each kind of check.

A new kind is a class here, named in `KINDS`, and its keys in `Gate`; judging, cost, lint, the
ladder and every text ask the classes.
"""

import abc
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from pydantic import ModelWrapValidatorHandler, PrivateAttr, model_validator

from pipeline.plan.sweep_types import BEST_KNOWN, Epoch, Fraction, Level, Strict
from pipeline.plan.verdict import Verdict, VerdictKind, percent
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Cause, State


class Gate(Strict):
    """One entry of `gates:`: under `floor` prune, under `target` watch.

    `improve_on_epoch` also prunes if no epoch since then was better by `min_delta`.
    """

    epoch: Epoch
    floor: Level | None = None
    target: Fraction | None = None
    improve_on_epoch: Epoch | None = None
    min_delta: Fraction = 0.0
    _floor_is_best_known: bool = PrivateAttr(default=False)

    @model_validator(mode="wrap")
    @classmethod
    def _note_origin(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        gate = handler(data)
        if isinstance(data, dict):
            gate._floor_is_best_known = data.get("floor") == BEST_KNOWN
        return gate

    @model_validator(mode="after")
    def _checks_something(self) -> Self:
        if not self.kinds:
            raise ValueError("a gate needs a floor, a target or improve_on_epoch")
        if self.improve_on_epoch is not None and self.improve_on_epoch >= self.epoch:
            raise ValueError(
                f"improve_on_epoch {self.improve_on_epoch} is not before the gate's own "
                f"epoch {self.epoch}"
            )
        return self

    @property
    def floor_is_best_known(self) -> bool:
        """Whether the file writes the floor as `best_known`: then equality is watched."""
        return self._floor_is_best_known

    @property
    def kinds(self) -> tuple["GateKind", ...]:
        """What is checked, one object a kind."""
        asked = (kind.of(self) for kind in KINDS)
        return tuple(kind for kind in asked if kind is not None)

    @property
    def can_prune(self) -> bool:
        """Whether the gate can stop a trial at all."""
        return self.stops_below is not None

    @property
    def stops_below(self) -> float | None:
        """The lowest accuracy at which it surely stops no trial, None if it never stops one."""
        return max((k.stops_below for k in self.kinds if k.stops_below is not None), default=None)

    @property
    def needs(self) -> set[int]:
        """The epochs whose validation it needs."""
        return {self.epoch}.union(*(kind.needs for kind in self.kinds))

    @property
    def aim(self) -> float | None:
        """The target, None without one."""
        return next((kind.aim for kind in self.kinds if kind.aim is not None), None)

    def judge(self, measured: Sequence[Measurement]) -> list[Verdict]:
        """Return the gate's verdicts on a trial at its epoch: stops before warnings."""
        found = [verdict for kind in self.kinds if (verdict := kind.judge(measured))]
        return sorted(found, key=lambda verdict: not verdict.stops)

    def passed(self) -> str:
        """Return the words for a trial at which no check of the gate objects."""
        return f"reaches the target {percent(self.aim)}" if self.aim else "passes the gate"

    def describe(self) -> str:
        """Return what the gate does, as the view of a plan shows it."""
        kinds = sorted(self.kinds, key=lambda kind: kind.stops_below is None)
        never = "" if self.can_prune else " (never stops)"
        return f"epoch {self.epoch}: {'; '.join(kind.describe() for kind in kinds)}{never}"

    def distance(self, history: Sequence[Measurement]) -> str:
        """Return what the gate asks for and how far the latest epoch is from it, in points."""
        trained = [m for m in history if m.epoch > 0 and m.finite]
        return f"gate {self.epoch}: {', '.join(kind.distance(trained) for kind in self.kinds)}"

    def unanswered(self, below: float | None, rules: Iterable[str]) -> str | None:
        """Return which stop no rule of the ladder follows, None if all have one.

        Args:
            below: the highest accuracy below which a rule follows at this epoch.
            rules: names of the kinds whose stop a rule follows at this epoch.
        """
        gaps = (kind.unanswered(below, set(rules)) for kind in self.kinds)
        return next((gap for gap in gaps if gap is not None), None)

    def record(self) -> dict[str, Any]:
        """Return the gate as JSON shows it and as studies and run directories keep it."""
        return {**self.model_dump(), "floor_is_best_known": self.floor_is_best_known}


def next_gate(gates: Iterable[Gate], epoch: int) -> Gate | None:
    """Return the first gate after an epoch."""
    return next((gate for gate in gates if gate.epoch > epoch), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateKind(abc.ABC):
    """One check at one epoch."""

    epoch: int
    #: Its part of a verdict's rule ("epoch 5 floor"), and its name in `ladder.after`.
    name: ClassVar[str]

    @classmethod
    @abc.abstractmethod
    def of(cls, gate: Gate) -> Self | None:
        """Return this check as an entry of the file asks for it, None if it does not."""

    @property
    def stops_below(self) -> float | None:
        """The lowest accuracy at which it surely stops no trial, None if it never stops one."""
        return None

    @property
    def needs(self) -> set[int]:
        """The epochs whose validation it needs, beside the gate's own."""
        return set()

    @property
    def aim(self) -> float | None:
        """The accuracy of a trial that goes as planned, None if it sets none."""
        return None

    @abc.abstractmethod
    def judge(self, measured: Sequence[Measurement]) -> Verdict | None:
        """Return its verdict at its epoch, the latest of `measured`, None if it has none."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Return what it does: "below 88.00 % stop"."""

    @abc.abstractmethod
    def distance(self, trained: Sequence[Measurement]) -> str:
        """Return what it asks for and how far off the trained epochs are, in points."""

    def unanswered(self, below: float | None, rules: set[str]) -> str | None:
        """Return which stop no rule of the ladder follows; see `Gate.unanswered`."""
        del below, rules
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FloorGate(GateKind):
    """Prune below a level; equality with the best known accuracy is watched."""

    level: float
    is_best_known: bool
    name = "floor"

    @classmethod
    def of(cls, gate: Gate) -> Self | None:
        if gate.floor is None:
            return None
        return cls(epoch=gate.epoch, level=gate.floor, is_best_known=gate.floor_is_best_known)

    @property
    def stops_below(self) -> float:
        return self.level

    def judge(self, measured: Sequence[Measurement]) -> Verdict | None:
        top1 = measured[-1].top1
        if top1 < self.level:
            bound = "the best known" if self.is_best_known else "the floor"
            return _below(self, measured[-1], self.level, f"is under {bound}", prunes=True)
        if self.is_best_known and top1 == self.level:
            return _below(self, measured[-1], self.level, "is not above the start")
        return None

    def describe(self) -> str:
        return f"below {percent(self.level)} stop"

    def distance(self, trained: Sequence[Measurement]) -> str:
        return _off("floor", self.level, trained)

    def unanswered(self, below: float | None, rules: set[str]) -> str | None:
        del rules
        if below is not None and below >= self.level:
            return None
        low = f"{below:g} to " if below is not None else ""
        return f"a run at {low}below the floor {self.level:g} is stopped"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetGate(GateKind):
    """Watch below a level."""

    level: float
    name = "target"

    @classmethod
    def of(cls, gate: Gate) -> Self | None:
        return None if gate.target is None else cls(epoch=gate.epoch, level=gate.target)

    @property
    def aim(self) -> float:
        return self.level

    def judge(self, measured: Sequence[Measurement]) -> Verdict | None:
        if measured[-1].top1 >= self.level:
            return None
        return _below(self, measured[-1], self.level, "is under the target")

    def describe(self) -> str:
        return f"below {percent(self.level)} watch"

    def distance(self, trained: Sequence[Measurement]) -> str:
        return _off("target", self.level, trained)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImprovementGate(GateKind):
    """Prune if no epoch after `since` was better than it by at least `min_delta`."""

    since: int
    min_delta: float
    name = "no_improvement"

    @classmethod
    def of(cls, gate: Gate) -> Self | None:
        if gate.improve_on_epoch is None:
            return None
        return cls(epoch=gate.epoch, since=gate.improve_on_epoch, min_delta=gate.min_delta)

    @property
    def stops_below(self) -> float:
        return 1.0  # a stop for lack of improvement may come at any value

    @property
    def needs(self) -> set[int]:
        return {self.since}

    def judge(self, measured: Sequence[Measurement]) -> Verdict | None:
        reference = self._reference(measured)
        if reference is None:
            return None
        required = reference.top1 + self.min_delta
        later = [m.top1 for m in measured if m.epoch > self.since and m.finite]
        if max(later) >= required:
            return None
        latest = measured[-1]
        return Verdict(
            epoch=latest.epoch,
            top1=latest.top1,
            kind=VerdictKind.PRUNE,
            rule=f"epoch {self.epoch} {self.name}",
            threshold=required,
            reading=max(later),
            reason=(
                f"epoch {latest.epoch}: no epoch since {self.since} reached {percent(required)} "
                f"({percent(reference.top1)} at epoch {self.since} + {percent(self.min_delta)}); "
                f"the best since is {percent(max(later))}"
            ),
            state=State.PRUNED,
            cause=Cause.GATE,
        )

    def describe(self) -> str:
        return f"no gain of {self.min_delta:g} on epoch {self.since} stop"

    def distance(self, trained: Sequence[Measurement]) -> str:
        reference = self._reference(trained)
        if reference is None:
            return f"must improve on epoch {self.since}"
        later = [m for m in trained if m.epoch > self.since]
        best = max(later, key=lambda m: m.top1, default=None)
        return _off("must reach", reference.top1 + self.min_delta, [best] if best else [])

    def unanswered(self, below: float | None, rules: set[str]) -> str | None:
        del below
        return None if self.name in rules else "a run without improvement is stopped"

    def _reference(self, measured: Iterable[Measurement]) -> Measurement | None:
        return next((m for m in measured if m.epoch == self.since), None)


#: In the order in which texts name them.
KINDS: tuple[type[GateKind], ...] = (FloorGate, TargetGate, ImprovementGate)


def _off(word: str, level: float, trained: Sequence[Measurement]) -> str:
    off = f" ({100 * (trained[-1].top1 - level):+.2f})" if trained else ""
    return f"{word} {percent(level)}{off}"


def _below(
    gate: GateKind, latest: Measurement, threshold: float, words: str, prunes: bool = False
) -> Verdict:
    """Return the verdict on an epoch whose accuracy is not above a threshold."""
    value = percent(latest.top1)
    if value == percent(threshold) and latest.top1 != threshold:
        value = percent(latest.top1, 4)  # so that "88.00 % is under 88.00 %" is never printed
    return Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.PRUNE if prunes else VerdictKind.WATCH,
        rule=f"epoch {gate.epoch} {gate.name}",
        threshold=threshold,
        reason=f"epoch {latest.epoch}: top-1 {value} {words} {percent(threshold)}",
        state=State.PRUNED if prunes else None,
        cause=Cause.GATE if prunes else None,
    )
