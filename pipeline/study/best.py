"""Which trial of a sweep is the best."""

from collections.abc import Sequence

from pipeline.plan.sweep import Sweep
from pipeline.study.board import TrialRow


def best_row(sweep: Sweep, rows: Sequence[TrialRow]) -> TrialRow | None:
    """Return the complete trial with the best top-1; makers of starting weights don't count."""
    complete = [
        row
        for row in rows
        if row.state == "COMPLETE"
        and row.best_top1 is not None
        and row.variant not in sweep.makers
    ]
    return max(complete, key=lambda row: row.best_top1 or 0.0, default=None)
