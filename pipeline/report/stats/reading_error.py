"""The standard error of what a trial reads: from its number of validation clips, or unknown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.verdict import standard_error
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.study.trial_rows import TrialRow


def clips_of(row: TrialRow, root: Path | None) -> int | None:
    """Return the number of clips that a trial validates on, None if nothing tells.

    The trial's job notes it in the run directory. Where that lies on another machine, a verdict
    still tells: its standard error is that of a proportion.

    Args:
        root: the project's folder; None where the run directory is not there.
    """
    noted = read_json(RunDir(root / row.run_dir).facts) if root and row.run_dir else None
    clips = (noted or row.facts).get("val_clips")
    if isinstance(clips, int) and clips > 0:
        return clips
    return _by_verdicts(row.verdicts)


def reading_error(top1: float | None, clips: int | None) -> float | None:
    """Return the standard error of a reading, None if it is not known."""
    return None if top1 is None else standard_error(top1, clips)


def _by_verdicts(verdicts: Sequence[Mapping[str, Any]]) -> int | None:
    for verdict in verdicts:
        top1, error = verdict.get("top1"), verdict.get("std_error")
        if isinstance(top1, float) and isinstance(error, float) and error > 0:
            return round(top1 * (1 - top1) / error**2)
    return None
