"""Replay complete learning curves as sweeps: what a stopping rule costs, and what it loses.

The rules decide here exactly as they do about running trials. A sweep takes its curves in random
order on its workers, each trial with its own speed; a trial's score is its best value, which
is what would be exported. Between two decisions nothing can happen to a trial, so time jumps.
"""

import dataclasses
import heapq
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from pipeline.plan.judge import patience_counts
from pipeline.plan.search.rules import (
    EPOCHS_PER_READING,
    AsyncHalving,
    Reachability,
    Rung,
    RungReading,
    TrialProgress,
)
from pipeline.plan.sweep import Patience
from pipeline.plan.verdict import VerdictKind
from pipeline.shared.states import Phase, State

#: A sweep has lost something when what may be exported is this far below its best curve.
MISS = 0.005
#: Spread of the trials' speed (of its logarithm) where several run at once.
SPREAD = 0.1


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """One complete run, and where it ends by rules that look at itself alone.

    Args:
        bests: best value so far after epochs 1, 2, ...; NaN before the first finite one.
        end: the last epoch that is trained.
        state: what it ends as.
        averaged: the value of the averaged weights by epoch, where it was read.
    """

    bests: Sequence[float]
    end: int
    state: State
    averaged: Mapping[int, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        guard: bool = True,
        patience: Patience | None = None,
        averaged: Mapping[int, float] | None = None,
    ) -> "LearningCurve":
        """Return the curve of these values.

        Args:
            values: one an epoch, a fraction; not finite where the run has diverged.
            guard: end the run at the first value that is not finite.
            averaged: the value of the averaged weights by epoch, where it was read.
        """
        read = averaged or {}
        bests = list(_best_so_far(values))
        broken = next((e for e, v in enumerate(values, 1) if not math.isfinite(v)), None)
        if guard and broken is not None:
            converged = _patience_end(values[: broken - 1], patience)
            if converged is None:
                return cls(bests, broken, State.FAIL, read)
            return cls(bests, converged, State.COMPLETE, read)
        end = _patience_end(values, patience) or len(values)
        return cls(bests, end, State.COMPLETE, read)

    @property
    def epochs(self) -> int:
        """How many the run has in all."""
        return len(self.bests)

    @property
    def result(self) -> float:
        """The best value that the run would export; -inf where it ends without one."""
        value = self.bests[self.end - 1]
        kept = self.state is State.COMPLETE and math.isfinite(value)
        return value if kept else -math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedSweep:
    """How one sweep went, by trial in the order they were begun.

    Args:
        trained: epochs that each trial got.
        states: what each ended as.
        cost: epochs trained, with what readings of averaged weights cost, as a share of training
            everything.
        regret: the best curve's best value less the best that may be exported.
    """

    trained: tuple[int, ...]
    states: tuple[State | Phase, ...]
    cost: float
    regret: float

    @property
    def missed(self) -> bool:
        """Whether the sweep ended noticeably below its best curve."""
        return self.regret > MISS


def simulate(
    curves: Sequence[LearningCurve],
    rule: AsyncHalving,
    workers: int = 1,
    rng: random.Random | None = None,
    known: Sequence[LearningCurve] = (),
) -> SimulatedSweep:
    """Run one sweep of these curves, in their order.

    Args:
        rng: draws the trials' speeds; needed for more than one worker.
        known: runs that were complete before the sweep began.
    """
    return _Sweep(curves, rule, workers, rng, known).run()


@dataclasses.dataclass
class _Trial:
    number: int
    curve: LearningCurve
    speed: float
    epoch: int = 0
    reachability: Reachability = Reachability.OPEN
    state: State | Phase = Phase.WAITING
    readings: int = 0  # of averaged weights, each of which takes time


class _Sweep:
    def __init__(
        self,
        curves: Sequence[LearningCurve],
        rule: AsyncHalving,
        workers: int,
        rng: random.Random | None,
        known: Sequence[LearningCurve],
    ) -> None:
        rng = rng or random.Random(0)
        speeds = [math.exp(rng.gauss(0, SPREAD)) if workers > 1 else 1.0 for _ in curves]
        self.trials = [
            _Trial(n, c, s) for n, (c, s) in enumerate(zip(curves, speeds, strict=True))
        ]
        self.rule = rule
        self._checks = rule.checks
        self.known = [
            _Trial(-1 - i, c, 1.0, c.end, Reachability.OUT, c.state) for i, c in enumerate(known)
        ]
        self._fresh = list(reversed(self.trials))
        self._free = workers
        self._events: list[tuple[float, int, _Trial]] = []
        self._count = 0

    def run(self) -> SimulatedSweep:
        now = 0.0
        self._fill(now)
        while self._events:
            now, _, trial = heapq.heappop(self._events)
            trial.epoch = self._target(trial)
            if not self._goes_on(trial):
                self._free += 1
            else:
                self._push(trial, now)
            self._settle()
            self._fill(now)
        return self._result()

    def _target(self, trial: _Trial) -> int:
        """Return the epoch at which something is next decided about a trial."""
        ahead = [c for c in self._checks if c > trial.epoch]
        return min([*ahead, trial.curve.end])

    def _push(self, trial: _Trial, now: float) -> None:
        self._count += 1
        ends = now + (self._target(trial) - trial.epoch) * trial.speed
        heapq.heappush(self._events, (ends, self._count, trial))

    def _fill(self, now: float) -> None:
        while self._free:
            trial = next((t for t in self.trials if t.state is Phase.INTERRUPTED), None)
            if trial is None and self._fresh:
                trial = self._fresh.pop()
            if trial is None:
                return
            trial.state = Phase.RUNNING
            self._free -= 1
            self._push(trial, now)

    def _goes_on(self, trial: _Trial) -> bool:
        """Decide about a trial that has got to its target: the guard, the rule, patience."""
        at_end = trial.epoch == trial.curve.end
        if at_end and trial.curve.state is State.FAIL:
            return self._end(trial, State.FAIL)
        if trial.epoch in self._checks:
            trial.readings += self.rule.averaged
            kind = self._decide(trial, self._field(trial.epoch))
            if kind is VerdictKind.PRUNE:
                return self._end(trial, State.PRUNED)
            if kind is VerdictKind.PAUSE:
                trial.state = Phase.PAUSED
                return False
        return not at_end or self._end(trial, State.COMPLETE)

    def _settle(self) -> None:
        """Let paused trials go on, or end them, once their check can be decided."""
        paused = [t for t in self.trials if t.state is Phase.PAUSED]
        # Nothing changes while all of them are decided, so one field serves all at a check.
        fields = {check: self._field(check) for check in {t.epoch for t in paused}}
        kinds = [(t, self._decide(t, fields[t.epoch])) for t in paused]
        for trial, kind in kinds:
            if kind is VerdictKind.PRUNE:
                self._end(trial, State.PRUNED)
            elif kind is VerdictKind.GO and trial.epoch == trial.curve.end:
                self._end(trial, State.COMPLETE)
            elif kind is VerdictKind.GO:
                trial.state = Phase.INTERRUPTED  # until a worker is free

    def _end(self, trial: _Trial, state: State) -> bool:
        trial.state = state
        trial.reachability = Reachability.OUT if state is State.PRUNED else Reachability.ENDED
        return False

    def _decide(self, trial: _Trial, field: Rung) -> VerdictKind:
        if trial.number not in field.readings:  # without the guard: no finite value so far
            return VerdictKind.PRUNE
        return self.rule.decide(trial.epoch, trial.number, field).kind

    def _field(self, check: int) -> Rung:
        standings = (self._standing(t, check) for t in (*self.trials, *self.known))
        return self.rule.field(standings, check)

    def _standing(self, trial: _Trial, check: int) -> TrialProgress:
        broke_there = trial.state is State.FAIL and trial.epoch == check
        there = trial.epoch >= check and not broke_there
        there = there and math.isfinite(trial.curve.bests[check - 1])
        readings = {check: self._reading(trial.curve, check)} if there else {}
        return TrialProgress(trial.number, trial.epoch, readings, trial.reachability)

    def _reading(self, curve: LearningCurve, check: int) -> float:
        averaged = curve.averaged.get(check) if self.rule.averaged else None
        return RungReading.of(curve.bests[check - 1], averaged).value

    def _result(self) -> SimulatedSweep:
        final = [t.curve.bests[-1] for t in self.trials]
        target = max(v for v in final if math.isfinite(v))
        kept = [t.curve.bests[t.epoch - 1] for t in self.trials if t.state is State.COMPLETE]
        kept = [v for v in kept if math.isfinite(v)]
        if not kept:
            seen = [t.curve.bests[t.epoch - 1] for t in self.trials if t.epoch]
            kept = [v for v in seen if math.isfinite(v)] or [-math.inf]
        trained = tuple(t.epoch for t in self.trials)
        spent = sum(trained) + EPOCHS_PER_READING * sum(t.readings for t in self.trials)
        return SimulatedSweep(
            trained=trained,
            states=tuple(t.state for t in self.trials),
            cost=spent / sum(t.curve.epochs for t in self.trials),
            regret=max(0.0, target - max(kept)),
        )


def _best_so_far(values: Sequence[float]) -> Iterator[float]:
    best = math.nan
    for value in values:
        if math.isfinite(value) and not best >= value:
            best = value
        yield best


def _patience_end(values: Sequence[float], patience: Patience | None) -> int | None:
    """Return the epoch at which patience runs out, None if it never does."""
    if patience is None:
        return None
    counts = patience_counts(values, patience.min_delta)
    return next((e for e, count in enumerate(counts, 1) if count.waited >= patience.epochs), None)
