"""The judge: what the plan's rules say about a trial, from its measurements alone.

Pure functions without state. A trial that was interrupted and taken up again, a finished log
and a simulated curve are all judged by the same code, so a restart can neither renew patience
nor forget a gate.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from pipeline.plan.doubt import with_error
from pipeline.plan.patience import patience_counts
from pipeline.plan.search import rung_judge
from pipeline.plan.search.rung_judge import RungRules
from pipeline.plan.sweep import Gate, Patience, Variant, WarmStart
from pipeline.plan.verdict import Verdict, VerdictKind, percent
from pipeline.shared.measurement import Measurement, by_epoch

#: A logged lr further than this from the schedule's own (relative) is worth a word.
LR_TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """All that `judge` compares a trial with.

    Args:
        start: the warm start, for the check of epoch 0.
        true_lr: lr in force during epochs 1, 2, ... by the trial's own schedule, if known.
        clips: number of validation clips, for the standard error, if known.
        overruled: verdicts that no longer stop this trial, by epoch and rule (`plan.overrule`).
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

    The rules speak in this order: non-finite metric, epoch 0 against the expected value, the
    gate of this epoch, a search's stopping rule, patience; the first that stops wins, else the
    first that watches.

    Args:
        history: the measurements so far, at least one; each epoch counts once.

    Source: training plan, "key monitoring points" 1-3 and correction 2 (patience).
    """
    measured = by_epoch(history)
    latest = measured[-1]
    noted: Verdict | None = None
    for verdict in _verdicts(measured, rules):
        if verdict.stops:
            return with_error(verdict, rules.clips)
        noted = _stronger(noted, verdict)
    return with_error(noted or _go(latest, rules), rules.clips)


def judge_all(history: Sequence[Measurement], rules: Rules) -> list[Verdict]:
    """Return the verdict after each epoch, up to and with the first that stops the trial."""
    measured = by_epoch(history)
    verdicts: list[Verdict] = []
    for count in range(1, len(measured) + 1):
        verdicts.append(judge(measured[:count], rules))
        if verdicts[-1].stops:
            break
    return verdicts


def best(history: Sequence[Measurement]) -> Measurement | None:
    """Return the best trained epoch (the first of equals); epoch 0 is no result."""
    trained = [m for m in by_epoch(history) if m.epoch > 0 and m.finite]
    return max(trained, key=lambda m: (m.top1, -m.epoch), default=None)


def _verdicts(measured: list[Measurement], rules: Rules) -> Iterator[Verdict]:
    latest = measured[-1]
    if not latest.finite:
        yield Verdict(
            epoch=latest.epoch,
            top1=latest.top1,
            kind=VerdictKind.PRUNE,
            rule="non-finite metric",
            reason=f"epoch {latest.epoch}: the validation metric is {latest.top1}",
            state="FAIL",
            cause="nan",
        )
        return
    if latest.epoch == 0:
        yield from _start(latest, rules.start)
        return
    if rules.search is not None:
        yield from rung_judge.check_loss(latest)
    for gate in rules.gates:
        if gate.epoch == latest.epoch:
            found = _gate(gate, measured)
            yield from map(rung_judge.downgrade, found) if rules.search is not None else found
    yield from _lr(latest, rules)
    if rules.search is not None:
        yield from rung_judge.check(measured, rules.search)
    if rules.patience is not None:
        yield from _patience(measured, rules.patience)


def _stronger(noted: Verdict | None, verdict: Verdict) -> Verdict:
    """Return which verdict is told: the first, or a search's own with the warning."""
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
        state="FAIL" if stops else None,
        cause="start_mismatch" if stops else None,
    )


def _gate(gate: Gate, measured: list[Measurement]) -> Iterator[Verdict]:
    latest = measured[-1]
    name = f"epoch {gate.epoch}"
    known = gate.floor_is_best_known
    if gate.floor is not None and latest.top1 < gate.floor:
        words = "the best known" if known else "the floor"
        yield _prune(latest, f"{name} floor", gate.floor, f"is under {words} {{}}")
        return
    if gate.improve_on_epoch is not None:
        yield from _improvement(gate, gate.improve_on_epoch, measured)
    if known and latest.top1 == gate.floor:
        yield _watch(latest, f"{name} floor", gate.floor, "is not above the start {}")
    if gate.target is not None and latest.top1 < gate.target:
        yield _watch(latest, f"{name} target", gate.target, "is under the target {}")


def _improvement(gate: Gate, since: int, measured: list[Measurement]) -> Iterator[Verdict]:
    """Prune if no epoch after `since` was better than it by at least min_delta."""
    reference = next((m for m in measured if m.epoch == since), None)
    if reference is None:
        return
    wanted = reference.top1 + gate.min_delta
    later = [m.top1 for m in measured if m.epoch > since and m.finite]
    if any(top1 >= wanted for top1 in later):
        return
    latest = measured[-1]
    yield Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.PRUNE,
        rule=f"epoch {gate.epoch} no_improvement",
        threshold=wanted,
        reading=max(later),
        reason=(
            f"epoch {latest.epoch}: no epoch since {since} reached {percent(wanted)} "
            f"({percent(reference.top1)} at epoch {since} + {percent(gate.min_delta)}); "
            f"the best since is {percent(max(later))}"
        ),
        state="PRUNED",
        cause="gate",
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
        rule="patience",
        threshold=count.best + patience.min_delta,
        reading=max((m.top1 for m in trained[count.place + 1 :] if m.finite), default=None),
        reason=(
            f"epoch {latest.epoch}: {count.waited} epochs in a row did not beat "
            f"{percent(count.best)} (epoch {best_epoch}) by {percent(patience.min_delta)}"
        ),
        state="COMPLETE",
        cause="patience",
    )


def _prune(latest: Measurement, rule: str, threshold: float, words: str) -> Verdict:
    return Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.PRUNE,
        rule=rule,
        threshold=threshold,
        reason=_compared(latest, threshold, words),
        state="PRUNED",
        cause="gate",
    )


def _watch(latest: Measurement, rule: str, threshold: float | None, words: str) -> Verdict:
    return Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.WATCH,
        rule=rule,
        threshold=threshold,
        reason=_compared(latest, threshold or 0.0, words),
    )


def _compared(latest: Measurement, threshold: float, words: str) -> str:
    value = percent(latest.top1)
    if value == percent(threshold) and latest.top1 != threshold:
        value = percent(latest.top1, 4)  # so that "88.00 % is under 88.00 %" is never said
    return f"epoch {latest.epoch}: top-1 {value} " + words.format(percent(threshold))


def _go(latest: Measurement, rules: Rules) -> Verdict:
    """Say what was passed, or that this epoch had nothing to pass."""
    value = f"epoch {latest.epoch}: top-1 {percent(latest.top1)}"
    gate = next((g for g in rules.gates if g.epoch == latest.epoch), None)
    if gate is None:
        return Verdict(epoch=latest.epoch, top1=latest.top1, kind=VerdictKind.GO, reason=value)
    passed = f"reaches the target {percent(gate.target)}" if gate.target else "passes the gate"
    return Verdict(
        epoch=latest.epoch,
        top1=latest.top1,
        kind=VerdictKind.GO,
        rule=f"epoch {gate.epoch} gate",
        threshold=gate.target,
        reason=f"{value} {passed}",
    )
