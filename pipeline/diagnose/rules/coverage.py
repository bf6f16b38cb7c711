"""What the log lacks, so that silence is never taken for health."""

from collections.abc import Iterator

from pipeline.diagnose.log_case import Finding, LogCase


def no_validation(case: LogCase) -> Iterator[Finding]:
    """Say that nothing was validated, and what the log has instead."""
    curve = case.curve
    if curve.validated:
        return
    if curve.facts.by_iteration:
        has = "it counts iterations, not epochs"
    elif curve.points:
        has = f"it has the training of epochs {curve.points[0].epoch}-{curve.last_epoch}"
    else:
        has = "it has no epoch at all"
    interval = curve.facts.val_interval
    yield Finding(
        id="no_validation",
        severity="warning" if curve.points and not curve.facts.by_iteration else "error",
        epoch=None,
        evidence=f"no validation of an epoch is logged; {has}"
        + (f"; val_interval is {interval}" if interval and interval > 1 else ""),
        remedy="Give the log of rank 0, or set train_cfg.val_interval (MMEngine) or "
        "evaluation.interval (MMCV) to 1.",
    )


def no_top1(case: LogCase) -> Iterator[Finding]:
    """Say that the validations lack the metric, and which metrics they have."""
    if not case.curve.validated or case.series is not None:
        return
    names = ", ".join(case.curve.metric_names()[:12])
    yield Finding(
        id="no_top1",
        severity="error",
        epoch=None,
        evidence=f"{len(case.curve.validated)} validations, none with the metric; "
        f"they have: {names}",
        remedy=f"Name the metric to judge: --metric {case.curve.metric_names()[0]}",
    )
