"""`pcan doctor --rebuild`: refill a study storage from the run directories."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import StorageError
from pipeline.launch.workdir import spec_facts
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.preflight.plan_facts import resolve_and_check
from pipeline.shared.counted import counted
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Phase, State
from pipeline.study.db.storage import Storage
from pipeline.study.import_trials import NumberTaken, RecoveredTrial, recover
from pipeline.study.register import register_all, registration_lines


def rebuild(sweep: Sweep, project: Project, storage: Storage) -> Iterator[str]:
    """Register the sweep, then add every run directory to the storage; safe to repeat.

    Yields:
        A line for the user about each trial.

    Raises:
        StorageError: there is no run directory.
    """
    folders = run_directories(project.runs / sweep.name)
    if not folders:
        raise StorageError(
            f"{relative(project.runs / sweep.name, project.root)} holds no run directories to "
            "rebuild from."
        )
    hashes = resolve_and_check(sweep, project).hashes
    yield from registration_lines(register_all(sweep, storage, hashes))
    for folder in folders:
        yield f"{folder.parent.name}/{folder.name}: {_one(sweep, project, storage, folder)}."


def run_directories(folder: Path) -> list[Path]:
    """Return the run directories of studies below `runs/<sweep>`, by study and number."""
    folders = [f.parent for f in folder.glob("*/*/spec.json") if f.parent.name.isdigit()]
    return sorted(folders, key=lambda f: (f.parent.name, int(f.name)))


def _one(sweep: Sweep, project: Project, storage: Storage, folder: Path) -> str:
    rundir = RunDir(folder)
    spec = rundir.read_spec() or TrialSpec()
    if spec.variant not in sweep.variants or not spec.trial:
        if spec.imported:
            return "left alone; import its log again: pcan sweep import LOG"
        return "left alone, the sweep file has no such variant"
    lost = RecoveredTrial(
        variant=spec.variant,
        number=int(folder.name),
        uid=spec.trial,
        recipe_hash=spec.recipe_hash,
        params=spec.values,
        attempt=spec.attempt,
    )
    try:
        lease = recover(sweep, storage, lost)
    except NumberTaken as other:
        return f"left alone, {other}"
    if lease is None:
        return "already there"
    history, verdicts = rundir.read_measurements(), _verdicts(rundir)
    place = str(folder.relative_to(project.root))
    lease.begin(place, spec.device or "", spec_facts(spec))
    if history:
        lease.report(history, verdicts)
    outcome = read_json(rundir.outcome) or {}
    cause, reason = outcome.get("cause"), str(outcome.get("reason") or "")
    if outcome.get("state") in (State.COMPLETE, State.PRUNED, State.FAIL):
        state = str(outcome["state"])
        lease.tell(state, history, cause=cause, reason=reason, verdicts=verdicts, seconds=0.0)
        return f"{state.lower()} after {counted(len(history), 'epoch')}"
    lease.release(Phase.INTERRUPTED, cause=cause, reason=reason or "rebuilt", seconds=0.0)
    return f"{counted(len(history), 'epoch')}, to be gone on with"


def _verdicts(rundir: RunDir) -> list[dict[str, Any]]:
    """Return the verdicts of a rule, as the storage keeps them."""
    return [
        {key: value for key, value in record.items() if key != "time"}
        for record in rundir.read_verdicts()
        if record.get("rule") is not None
    ]
