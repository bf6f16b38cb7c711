"""The runs of a sweep that went to their end, with their curves: its own and imported ones."""

import math
from collections.abc import Sequence

from pipeline.plan.lint.floor_error import FinishedRun
from pipeline.plan.sweep import Sweep
from pipeline.shared.states import State
from pipeline.study.db.storage import Storage
from pipeline.study.rungs import read_curves
from pipeline.study.trial_rows import TrialRow, read_board, study_name


def finished_runs(sweep: Sweep, storage: Storage) -> list[FinishedRun]:
    """Return the complete runs of a sweep but for the makers of starting weights.

    A run that a gate stopped has no end to be compared with, so it is not among them.

    Raises:
        StorageError: the storage cannot be read.
    """
    rows = read_board(sweep.name, storage)
    complete = [r for r in rows if r.state == State.COMPLETE and r.variant not in sweep.makers]
    curves = _curves(sweep, storage, complete)
    values = [
        (
            row.variant,
            {e: v for e, v in curves[row.trial_id].items() if e > 0 and math.isfinite(v)},
        )
        for row in complete
        if row.trial_id in curves
    ]
    return [FinishedRun(variant=name, values=curve) for name, curve in values if curve]


def _curves(
    sweep: Sweep, storage: Storage, rows: Sequence[TrialRow]
) -> dict[int, dict[int, float]]:
    studies = dict.fromkeys(study_name(sweep, row.variant) for row in rows)
    return {k: v for study in studies for k, v in read_curves(study, storage).items()}
