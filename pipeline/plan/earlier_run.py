"""An earlier run as its log has it: plain facts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.shared.measurement import Measurement


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
