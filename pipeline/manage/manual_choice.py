"""A trial chosen for export by hand: who chose it, on record in storage and run directory."""

from collections.abc import Mapping
from typing import Any

from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import write_json
from pipeline.shared.rundir import RunDir
from pipeline.study.audit import record_manual_export
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow


def record_manual_choice(
    sweep: Sweep, project: Project, storage: Storage, row: TrialRow, chosen: Mapping[str, Any]
) -> None:
    """Record with a trial who chose it.

    Args:
        chosen: who, where, when, and instead of which trial.
    """
    choices = record_manual_export(sweep, storage, row, chosen)
    if row.run_dir:
        path = RunDir(project.root / row.run_dir).chosen
        write_json(path, {"schema": 1, "chosen": choices})
