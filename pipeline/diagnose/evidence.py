"""Read a log as an earlier run of a sweep: its curve, how it ended, which variant it was."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.diagnose.curve import Curve
from pipeline.diagnose.log_case import LogCase, make_case
from pipeline.diagnose.match_variant import Match, match, recipe_values
from pipeline.diagnose.plan_context import choose_variant
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.series import how_to_name
from pipeline.errors import InputError
from pipeline.plan.recipe import MISSING, recipe_value
from pipeline.plan.sweep import Sweep
from pipeline.shared.counted import all_of, counted
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Cause, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """A run that is over, to be put beside a sweep's trials.

    Args:
        log: the file, as it was named.
        sha256: of the file's content; the same log is imported once.
        metric: the metric that was read, by the log's name.
        history: one measurement a validated epoch, without epoch 0; not empty.
        epochs: how many were planned, None if the log does not say.
        state: COMPLETE, PRUNED (the log ends early) or FAIL (a loss that is not finite).
        clips: number of validation clips, given, noted or read off the values.
        config: the logged configuration, by top-level name; empty if none lies beside the log.
        overrides: what it has wherever the plan sets or searches something, by config path.
        variant: the variant that it carries out, None if none does.
        params: its values at that variant's searched paths.
        why_not: what sets it apart from every variant.
    """

    log: str
    sha256: str
    format: str
    metric: str
    history: tuple[Measurement, ...]
    epochs: int | None
    state: str
    cause: str | None
    reason: str
    clips: int | None
    config: Mapping[str, Any]
    overrides: Mapping[str, Any]
    variant: str | None
    params: Mapping[str, Any]
    why_not: str


def read_evidence(
    sweep: Sweep,
    texts: Mapping[str, str],
    log: Path,
    *,
    metric: str | None = None,
    clips: int | None = None,
    variant: str | None = None,
) -> EarlierRun:
    """Read one log, or the newest run of a work dir.

    Args:
        texts: every variant's resolved config, as text.
        metric: the metric to read, if the log has another name for the sweep's.
        variant: the variant given by the user.

    Raises:
        InputError: there is no such log or metric, or the log is of another variant.
    """
    curve = read_log(log)
    case = make_case(
        curve,
        _metric(curve, metric or sweep.metric_of(variant or ""), metric is None),
        clips=clips,
    )
    history = _history(case)
    if case.series is None or not history:
        raise InputError(f"{curve.path} has no validation that can be read. See: pcan diagnose")
    matched = match(sweep, texts, curve.facts.config, curve.facts.load_from)
    if variant is not None:
        matched = _named(sweep, curve, matched, variant)
    state, cause, reason = _ending(curve)
    return EarlierRun(
        log=str(log),
        sha256=hashlib.sha256(Path(curve.path).read_bytes()).hexdigest(),
        format=curve.format,
        metric=case.series.metric,
        history=history,
        epochs=curve.facts.max_epochs,
        state=state,
        cause=cause,
        reason=reason,
        clips=case.series.clips,
        config=curve.facts.config,
        overrides=recipe_values(sweep, curve.facts.config),
        variant=matched.variant,
        params=matched.params,
        why_not=matched.why_not,
    )


def _metric(curve: Curve, metric: str, of_plan: bool) -> str:
    """Return the metric to read; a log's own top-1 is not silently used for the sweep's."""
    names = curve.metric_names()
    if metric in names:
        return metric
    if of_plan and curve.format == "measurements" and "top1" in names:
        return "top1"
    if not names:
        raise InputError(f"{curve.path} has no validation, so there is nothing to import.")
    raise InputError(
        f'{curve.path} has no metric "{metric}"; its validations have: {", ".join(names[:12])}. '
        + how_to_name(names, "If one of them is the same thing, name it")
    )


def _history(case: LogCase) -> tuple[Measurement, ...]:
    """Return the validated epochs; epoch 0 is left out, since it would mislead every pruner."""
    if case.series is None:
        return ()
    branches = {
        name: {p.epoch: v for p, v in zip(s.points, s.values, strict=True) if math.isfinite(v)}
        for name, s in case.branches.items()
    }
    return tuple(
        dataclasses.replace(
            m,
            rgb_top1=branches.get("rgb", {}).get(m.epoch),
            pose_top1=branches.get("pose", {}).get(m.epoch),
        )
        for m in case.series.measurements()
        if m.epoch > 0
    )


def _ending(curve: Curve) -> tuple[str, str | None, str]:
    """Return state, cause and reason of a run that is over, by its log."""
    facts, last = curve.facts, curve.last_epoch
    if curve.nan_loss is not None:
        return (
            State.FAIL,
            Cause.NAN,
            f"the training loss is not finite in epoch {curve.nan_loss[0]}",
        )
    if facts.failure is not None:
        return State.FAIL, "failed", facts.failure
    if facts.max_epochs is None:
        return (
            State.COMPLETE,
            None,
            f"{counted(last, 'epoch')}; the log does not say how many were planned",
        )
    if last >= facts.max_epochs:
        done = all_of(facts.max_epochs, "epoch is", "epochs are")
        return State.COMPLETE, None, f"{done} done."
    if facts.stop_message is not None or (facts.stop_cause or "").startswith(Cause.PATIENCE):
        return State.COMPLETE, Cause.PATIENCE, f"early stopping ended it after epoch {last}"
    cause = f" ({facts.stop_cause})" if facts.stop_cause else ""
    return State.PRUNED, "incomplete", f"ended after {last} of {facts.max_epochs} epochs{cause}"


def _named(sweep: Sweep, curve: Curve, matched: Match, variant: str) -> Match:
    """Return the user's variant, unless the log's own config contradicts it."""
    choose_variant(sweep, variant)
    config = curve.facts.config
    if matched.variant == variant:
        return matched
    if config:
        why = matched.why_not or f"its config is that of {matched.variant}"
        raise InputError(f"{curve.path} is not of {variant}: {why}. Leave --variant out.")
    return Match(variant=variant, params=_recipe_params(sweep, variant))


def _recipe_params(sweep: Sweep, variant: str) -> dict[str, Any]:
    """Return the recipe's own values at its searched paths."""
    chosen = sweep.variants[variant]
    values = {path: recipe_value(chosen, path) for path in chosen.space}
    return {path: value for path, value in values.items() if value is not MISSING}
