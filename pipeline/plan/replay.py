"""What a plan's rules would have done on a run that is already over.

The same judge as for a running trial, epoch by epoch, up to the first verdict that stops it.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from pipeline.plan.cost import gpu_hours
from pipeline.plan.judge import Rules, judge_all
from pipeline.plan.ladder import VariantOutcome, next_variant
from pipeline.plan.sweep import LadderRule, Sweep, Variant
from pipeline.plan.verdict import Verdict, non_finite
from pipeline.shared.measurement import Measurement


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """The verdicts of a plan on one finished run.

    Args:
        stopped_by: "gate", "patience", "nan", or another cause; None: it would have run on.
        next: the variant that the ladder would have started then.
        silent_gates: epochs of gates that the log has no validation for.
        epochs_logged: the last epoch the run reached.
    """

    verdicts: tuple[Verdict, ...]
    stopped_epoch: int | None
    stopped_by: str | None
    next: str | None
    silent_gates: tuple[int, ...]
    epochs_logged: int
    epochs_saved: int
    gpu_hours_saved: float | None

    def record(self) -> dict[str, Any]:
        """Return the replay as `pcan gates replay --json` shows it, without the log's name."""
        verdicts = [verdict.record() for verdict in self.verdicts]
        for verdict in verdicts:
            # JSON has no NaN.
            verdict["top1"] = verdict["top1"] if math.isfinite(verdict["top1"]) else None
        return {**dataclasses.asdict(self), "verdicts": verdicts}


def replay(
    sweep: Sweep,
    variant: Variant,
    history: Sequence[Measurement],
    epochs_logged: int,
    nan_epoch: int | None = None,
    clips: int | None = None,
) -> Replay:
    """Judge a finished run by the rules of a variant.

    Args:
        history: what was measured; epochs without a validation are simply missing.
        epochs_logged: the last epoch the run reached, validated or not.
        nan_epoch: the first epoch with a non-finite training loss, which ends a job at once.
        clips: size of the validation set, so that a close verdict can show how close it is.
    """
    seen = [m for m in history if nan_epoch is None or m.epoch < nan_epoch]
    verdicts = judge_all(seen, Rules.of(variant, clips=clips)) if seen else []
    stopped = next((verdict for verdict in verdicts if verdict.stops), None)
    if stopped is None and nan_epoch is not None:
        problem = "the training loss is not finite, which ends a job at once"
        stopped = non_finite(nan_epoch, math.nan, "loss", problem)
        verdicts.append(stopped)
    if stopped is not None:
        follower = next_variant(sweep, VariantOutcome.of(stopped), (variant.name,))
        stopped = dataclasses.replace(stopped, next=follower)
        verdicts[-1] = stopped
    reached = stopped.epoch if stopped else epochs_logged
    saved = max(0, epochs_logged - reached)
    return Replay(
        verdicts=tuple(verdicts),
        stopped_epoch=stopped.epoch if stopped else None,
        stopped_by=stopped.cause if stopped else None,
        next=stopped.next if stopped else None,
        silent_gates=_silent_gates(variant, history, reached),
        epochs_logged=epochs_logged,
        epochs_saved=saved,
        gpu_hours_saved=gpu_hours(sweep, saved),
    )


def _silent_gates(
    variant: Variant, history: Sequence[Measurement], reached: int
) -> tuple[int, ...]:
    measured = {m.epoch for m in history}
    return tuple(g.epoch for g in variant.gates if g.epoch <= reached and g.epoch not in measured)


def with_best_known(sweep: Sweep, best_known: float) -> Sweep:
    """Return the plan with another best known accuracy wherever it stands for `best_known`.

    For a log of another task or data set: gates and ladder rules that are numbers stay.
    """
    old = sweep.objective.best_known
    variants = {
        name: variant.model_copy(
            update={
                "gates": tuple(
                    g.model_copy(update={"floor": best_known}) if g.floor_is_best_known else g
                    for g in variant.gates
                )
            }
        )
        for name, variant in sweep.variants.items()
    }
    after = tuple(_moved(rule, old, best_known) for rule in sweep.ladder.after)
    return sweep.model_copy(
        update={
            "objective": sweep.objective.model_copy(update={"best_known": best_known}),
            "variants": variants,
            "ladder": sweep.ladder.model_copy(update={"after": after}),
        }
    )


def _moved(rule: LadderRule, old: float | None, new: float) -> LadderRule:
    if old is None or rule.below != old:
        return rule
    return rule.model_copy(update={"below": new})
