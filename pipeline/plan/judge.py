"""The judge: what the plan's rules decide about a trial, from its measurements alone.

Pure functions without state. A trial that was interrupted and resumed, a finished log and a
simulated curve are all judged by the same code, so a restart can neither renew patience nor
forget a gate.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

from pipeline.plan.gates import Gate
from pipeline.plan.search import rung_judge
from pipeline.plan.search.rung_judge import RungRules
from pipeline.plan.sweep import Patience, Variant, WarmStart
from pipeline.plan.verdict import Verdict, VerdictKind, non_finite, percent, with_error
from pipeline.shared.counted import counted
from pipeline.shared.measurement import Measurement, by_epoch
from pipeline.shared.states import Cause, State

#: A logged lr further than this from the schedule's own (relative) is reported.
LR_TOLERANCE = 0.01
PATIENCE = "patience"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """All that `judge` compares a trial with.

    Args:
        start: the warm start, for the check of epoch 0.
        true_lr: lr in force during epochs 1, 2, ... by the trial's own schedule, if known.
        clips: number of validation clips, for the standard error, if known.
        overruled: verdicts that no longer stop this trial, by epoch and rule.
        search: the stopping rule of a search, for its trials; the gates then only warn.
    """

    gates: tuple[Gate, ...] = ()
    patience: Patience | None = None
    start: WarmStart | None = None
    true_lr: tuple[float, ...] | None = None
    clips: int | None = None
    overruled: tuple[tuple[int, str], ...] = ()
    search: RungRules | None = None

    @classmethod
    def of(
        cls,
        variant: Variant,
        true_lr: Sequence[float] | None = None,
        clips: int | None = None,
    ) -> "Rules":
        """Return the rules that the sweep file gives a variant."""
        return cls(
            gates=variant.gates,
            patience=variant.patience,
            start=variant.warm_start,
            true_lr=tuple(true_lr) if true_lr is not None else None,
            clips=clips,
        )


def judge(history: Sequence[Measurement], rules: Rules) -> Verdict:
    """Decide whether a trial goes on after its latest epoch.

    The rules are asked in this order: non-finite metric, epoch 0 against the expected value, the
    gate of this epoch, a search's stopping rule, patience; the first that stops wins, else the
    first that watches.

    A gate or a start that was overruled no longer stops this trial; overruled patience counts
    again from the epoch after. Everything else is judged as ever, so a trial that goes on meets
    the next gate. A non-finite metric stops a trial whatever was overruled.

    Args:
        history: the measurements so far, at least one; each epoch counts once.

    Source: training plan, "key monitoring points" 1-3 and correction 2 (patience).
    """
    measured = by_epoch(history)
    verdict = _decide(measured, rules)
    lifted: Verdict | None = None
    left = rules
    while verdict.stops and _is_overruled(verdict, rules):
        lifted = lifted or verdict
        left = _without(left, verdict)
        verdict = _decide(measured, left)
    if lifted is None or verdict.stops:
        return verdict
    return dataclasses.replace(
        lifted,
        kind=VerdictKind.WATCH,
        reason=f"{lifted.reason} (overruled)",
        state=None,
        cause=None,
    )


def judge_all(history: Sequence[Measurement], rules: Rules) -> list[Verdict]:
    """Return the verdict after each epoch, up to and with the first that stops the trial."""
    measured = by_epoch(history)
    verdicts: list[Verdict] = []
    for count in range(1, len(measured) + 1):
        verdicts.append(judge(measured[:count], rules))
        if verdicts[-1].stops:
            break
    return verdicts


@dataclasses.dataclass(frozen=True)
class PatienceState:
    """How patience stands after a value: the best so far, its place, and how many came since."""

    best: float
    place: int
    waited: int


def patience_counts(values: Iterable[float], min_delta: float) -> Iterator[PatienceState]:
    """Count, after each value, how many in a row have stayed below best + min_delta.

    The best moves only when it is beaten by at least min_delta, as in MMEngine's
    EarlyStoppingHook 0.10 (its own `wait_count` is lost on resume; this has no state).
    """
    now = PatienceState(-math.inf, -1, 0)
    for place, value in enumerate(values):
        if not math.isfinite(value) or now.best + min_delta > value:
            now = PatienceState(now.best, now.place, now.waited + 1)
        else:
            now = PatienceState(value, place, 0)
        yield now


def _is_overruled(verdict: Verdict, rules: Rules) -> bool:
    if verdict.is_final:
        return False
    if verdict.rule == PATIENCE and rules.patience is not None:
        overruled = [epoch for epoch, rule in rules.overruled if rule == PATIENCE]
        return any(0 <= verdict.epoch - epoch < rules.patience.epochs for epoch in overruled)
    return (verdict.epoch, verdict.rule) in rules.overruled


def _without(rules: Rules, verdict: Verdict) -> Rules:
    """Return the rules without the one that gave this verdict."""
    if verdict.rule == PATIENCE:
        return dataclasses.replace(rules, patience=None)
    if verdict.epoch == 0:
        return dataclasses.replace(rules, start=None)
    if rung_judge.is_check(verdict.rule):
        return dataclasses.replace(rules, search=None)
    gates = tuple(gate for gate in rules.gates if gate.epoch != verdict.epoch)
    return dataclasses.replace(rules, gates=gates)


def _decide(measured: list[Measurement], rules: Rules) -> Verdict:
    """Return the verdict of these rules, whatever was overruled."""
    noted: Verdict | None = None
    for verdict in _verdicts(measured, rules):
        if verdict.stops:
            return with_error(verdict, rules.clips)
        noted = _stronger(noted, verdict)
    return with_error(noted or _go(measured[-1], rules), rules.clips)


def _verdicts(measured: list[Measurement], rules: Rules) -> Iterator[Verdict]:
    latest = measured[-1]
    if not latest.finite:
        yield non_finite(
            latest.epoch, latest.top1, "metric", f"the validation metric is {latest.top1}"
        )
        return
    if latest.epoch == 0:
        yield from _start(latest, rules.start)
        return
    if rules.search is not None:
        yield from rung_judge.check_loss(latest)
    for gate in rules.gates:
        if gate.epoch == latest.epoch:
            found = gate.judge(measured)
            yield from map(rung_judge.downgrade, found) if rules.search is not None else found
    yield from _lr(latest, rules)
    if rules.search is not None:
        yield from rung_judge.check(measured, rules.search)
    if rules.patience is not None:
        yield from _patience(measured, rules.patience)


def _stronger(noted: Verdict | None, verdict: Verdict) -> Verdict:
    """Return which verdict is reported: the first, or a search's own with the warning."""
    if noted is None:
        return verdict
    if verdict.kind is not VerdictKind.GO:
        return noted
    warning = noted.reason.removeprefix(f"epoch {noted.epoch}: ")
    return dataclasses.replace(verdict, reason=f"{verdict.reason}; {warning}")


def _start(latest: Measurement, start: WarmStart | None) -> Iterator[Verdict]:
    """Compare the starting weights with what they are known to reach."""
    if start is None or start.expect is None or start.on_mismatch == "skip":
        return
    off = abs(latest.top1 - start.expect)
    if off <= start.tolerance + 1e-12:
        return
    stops = start.on_mismatch == "stop"
    yield Verdict(
        epoch=0,
        top1=latest.top1,
        kind=VerdictKind.PRUNE if stops else VerdictKind.WATCH,
        rule="starting weights",
        threshold=start.expect,
        reason=(
            f"the starting weights reach {percent(latest.top1)}, not the expected "
            f"{percent(start.expect)} (tolerance {percent(start.tolerance)}): data, split, head "
            "or checkpoint do not belong together"
        ),
        state=State.FAIL if stops else None,
        cause=Cause.START_MISMATCH if stops else None,
    )


def _lr(latest: Measurement, rules: Rules) -> Iterator[Verdict]:
    """Watch a trial whose logged lr is not its own schedule's at a gate's epoch."""
    if rules.true_lr is None or latest.lr is None or latest.epoch > len(rules.true_lr):
        return
    if latest.epoch not in {gate.epoch for gate in rules.gates}:
        return
    true = rules.true_lr[latest.epoch - 1]
    if abs(latest.lr - true) <= LR_TOLERANCE * abs(true):
        return
    yield Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.WATCH,
        rule=f"epoch {latest.epoch} lr",
        reason=f"epoch {latest.epoch}: lr is {latest.lr:g}, the schedule gives {true:g}",
    )


def _patience(measured: list[Measurement], patience: Patience) -> Iterator[Verdict]:
    """Stop after `epochs` validations in a row below best + `min_delta`."""
    trained = [m for m in measured if m.epoch > 0]
    *_, count = patience_counts((m.top1 for m in trained), patience.min_delta)
    if count.waited < patience.epochs:
        return
    latest = measured[-1]
    best_epoch = trained[count.place].epoch if count.place >= 0 else 0
    yield Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.STOP,
        rule=PATIENCE,
        threshold=count.best + patience.min_delta,
        reading=max((m.top1 for m in trained[count.place + 1 :] if m.finite), default=None),
        reason=(
            f"epoch {latest.epoch}: {counted(count.waited, 'epoch')} in a row did not beat "
            f"{percent(count.best)} (epoch {best_epoch}) by {percent(patience.min_delta)}"
        ),
        state=State.COMPLETE,
        cause=Cause.PATIENCE,
    )


def _go(latest: Measurement, rules: Rules) -> Verdict:
    """Return the verdict for a trial that passed its gate, or that had none at this epoch."""
    value = f"epoch {latest.epoch}: top-1 {percent(latest.top1)}"
    gate = next((gate for gate in rules.gates if gate.epoch == latest.epoch), None)
    return Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.GO,
        rule=None if gate is None else f"epoch {gate.epoch} gate",
        threshold=None if gate is None else gate.aim,
        reason=value if gate is None else f"{value} {gate.passed()}",
    )
