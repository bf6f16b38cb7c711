"""A trial chosen for export by hand: who chose it, on record in storage and run directory."""

from collections.abc import Mapping
from typing import Any

from pipeline.job.files import write_json
from pipeline.job.rundir import RunDir
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.study.board import TrialRow
from pipeline.study.decisions import note_export
from pipeline.study.storage import Storage


def note_choice(
    sweep: Sweep, project: Project, storage: Storage, row: TrialRow, chosen: Mapping[str, Any]
) -> None:
    """Record with a trial who chose it.

    Args:
        chosen: who, where, when, and instead of which trial.
    """
    choices = note_export(sweep, storage, row, chosen)
    if row.run_dir:
        path = RunDir(project.root / row.run_dir).chosen
        write_json(path, {"schema": 1, "chosen": choices})
