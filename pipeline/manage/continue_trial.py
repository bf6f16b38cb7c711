"""`pcan sweep continue`: overrule a verdict.

The stop of a trial that still runs is lifted. A finished trial stays on record as it is; a new
trial of its study starts from its epochs, weights and optimizer state, and names it.
"""

import time
from collections.abc import Mapping
from typing import Any

from pipeline.errors import InputError, NotReady
from pipeline.launch.continuation import continue_as_new_trial
from pipeline.launch.control_files import audit_stamp, overrule, overrule_records
from pipeline.launch.resume_checkpoint import newest_checkpoint
from pipeline.launch.workdir import run_dir
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import NON_FINITE_RULES
from pipeline.shared.counted import counted
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause, Kind, Phase, State
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow, read_board, row_named

#: How long to wait until the launcher has lifted the stop, or the job has stopped before that.
LIFT_S = 60.0


def continue_trial(
    sweep: Sweep, project: Project, storage: Storage, name: str, lift_s: float = LIFT_S
) -> str:
    """Overrule the verdict that has stopped a trial.

    Args:
        name: VARIANT/NUMBER.

    Returns:
        What was done, and the command that comes next.

    Raises:
        InputError: no rule has stopped it, or its weights are of no use.
        NotReady: its checkpoints are gone.
    """
    row = _row(sweep, project, storage, name)
    if row.finished:
        return _continue_finished(sweep, project, storage, row)
    verdict = _stopping(row)
    if verdict is None:
        raise InputError(f"{row.name} {_not_stopped(sweep, row)}")
    if verdict.get("rule") in NON_FINITE_RULES:
        raise InputError(f"{row.name} {_refusal(row, verdict)}")
    rundir = _rundir(sweep, project, row)
    overrule(rundir, verdict, overrule_records(rundir))
    if row.phase != Phase.RUNNING:
        return f"{row.name} goes on {_after(row)} with the next {_launch(sweep, row)}"
    deadline = time.monotonic() + lift_s
    while time.monotonic() < deadline:
        row = _row(sweep, project, storage, name)
        if row.finished:
            return _continue_finished(sweep, project, storage, row)
        if _stopping(row) is None:
            return f"{row.name} goes on; the stop is lifted."
        time.sleep(0.3)
    return f"{row.name}: recorded. Its launcher has not answered yet: pcan sweep status"


def _continue_finished(sweep: Sweep, project: Project, storage: Storage, row: TrialRow) -> str:
    """Enqueue a trial that starts where this finished one ended."""
    verdict = _stopping(row)
    refusal = _refusal(row, verdict)
    if refusal is not None:
        raise InputError(f"{row.name} {refusal}")
    old = _rundir(sweep, project, row)
    checkpoint = newest_checkpoint(old)
    if checkpoint is None and row.state != State.FAIL:
        raise NotReady(
            f"{row.name} cannot go on: {relative(old.checkpoints, project.root)} no longer "
            "holds a checkpoint."
        )
    earlier = overrule_records(old)
    recorded = any(_same(one, verdict) for one in earlier)  # while the trial still ran
    overruling = [] if verdict is None or recorded else [{**verdict, **audit_stamp()}]
    number = continue_as_new_trial(sweep, project, storage, row, [*earlier, *overruling])
    return (
        f"{row.variant}/{number} goes on where {row.name} ended {_after(row)}; {row.name} stays "
        f"on record. Start it: {_launch(sweep, row)}"
    )


def _row(sweep: Sweep, project: Project, storage: Storage, name: str) -> TrialRow:
    return row_named(sweep.name, read_board(sweep.name, storage), name, project.runs)


def _rundir(sweep: Sweep, project: Project, row: TrialRow) -> RunDir:
    return run_dir(project, sweep.name, row.variant, row.number)


def _stopping(row: TrialRow) -> Mapping[str, Any] | None:
    """Return the verdict that stopped a trial, if one did."""
    return next((v for v in row.verdicts if v.get("verdict") in ("prune", "stop")), None)


def _same(record: Mapping[str, Any], verdict: Mapping[str, Any] | None) -> bool:
    return verdict is not None and all(record.get(k) == verdict.get(k) for k in ("epoch", "rule"))


def _not_stopped(sweep: Sweep, row: TrialRow) -> str:
    if row.phase == Phase.RUNNING:
        return "is running, and no rule has stopped it."
    if row.phase == Phase.WAITING:
        return f"has not been run yet. Run it: {_launch(sweep, row)}"
    return f"is {row.phase}, not stopped by a rule. Go on: {_launch(sweep, row)}"


def _refusal(row: TrialRow, verdict: Mapping[str, Any] | None) -> str | None:
    if row.superseded:
        return "was never run: the recipe changed before."
    if row.cause == Cause.NAN or (verdict and verdict.get("rule") in NON_FINITE_RULES):
        return (
            "ended with a value that is not finite, so its weights are of no use. Lower the lr in "
            "a variant of its own and launch that."
        )
    if row.state != State.FAIL and verdict is None:
        return f"has run all its {counted(row.epoch, 'epoch')}; there is nothing to overrule."
    return None


def _after(row: TrialRow) -> str:
    return f"after epoch {row.epoch}" if row.epoch else "before its first epoch"


def _launch(sweep: Sweep, row: TrialRow) -> str:
    if row.kind is Kind.SEARCH:
        return f"pcan sweep search {sweep.name}"
    variant = sweep.variants.get(row.variant)
    named = "" if variant is None or variant.in_ladder else f" --variant {row.variant}"
    return f"pcan sweep launch {sweep.name}{named}"
