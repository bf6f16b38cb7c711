"""`pcan doctor --rebuild`: refill a study storage from the run directories."""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PcanError, StorageError, SweepFileError
from pipeline.launch.workdir import spec_facts
from pipeline.plan.project import Project, relative
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.preflight.plan_facts import resolve_and_check
from pipeline.shared.counted import counted
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir, run_directories
from pipeline.shared.spec import TrialSpec
from pipeline.shared.start_record import seconds_of_jobs
from pipeline.shared.states import Phase, State
from pipeline.study.db.storage import Storage, open_storage, put_bad_aside
from pipeline.study.import_trials import NumberTaken, RecoveredTrial, recover
from pipeline.study.register import register_all, registration_lines


def rebuild_project(
    project: Project, sweep: Sweep | None, storage_url: str | None
) -> Iterator[str]:
    """Refill a project's storage from its run directories; safe to repeat.

    A file that cannot be used as a storage is kept aside, and every sweep of the project is
    refilled, for it held them all; a sound one gets the sweep that is named, or all.

    Args:
        storage_url: `--storage`.

    Yields:
        A line for the user about each trial.

    Raises:
        StorageError: there is nothing to refill it from, or not every sweep could be.
    """
    aside = put_bad_aside(storage_url, project.runs)
    if aside is not None:
        shown = relative(aside, Path.cwd())
        yield f"The storage cannot be used; its file is kept as {shown}."
    everything = aside is not None or sweep is None
    sweeps = _with_runs(project, sweep) if everything else [sweep] if sweep is not None else []
    if not sweeps:
        raise StorageError(
            f"{relative(project.runs, Path.cwd())} holds no run directories of the sweeps here to "
            "rebuild from." + (" The next launch begins a new storage." if aside else "")
        )
    storage = open_storage(storage_url, project.runs)
    try:
        failed = yield from _refill(project, sweeps, storage)
    finally:
        storage.close()
    if failed:
        raise StorageError(
            f"Not refilled: {', '.join(failed)}. Correct that, then run it again: pcan doctor "
            f"{failed[0]} --rebuild"
        )


def _with_runs(project: Project, first: Sweep | None) -> list[Sweep]:
    """Return the sweeps of the project that have run directories, the one that is named first."""
    found = [] if first is None else [first]
    for file in (*project.sweep_files(), *project.launched_elsewhere().values()):
        try:
            found.append(read_sweep(file, project.root))
        except SweepFileError:
            continue  # one that cannot be read has no runs that could be judged
    by_name: dict[str, Sweep] = {}
    for sweep in found:
        by_name.setdefault(sweep.name, sweep)
    return [s for s in by_name.values() if run_directories(project.runs / s.name)]


def _refill(
    project: Project, sweeps: Sequence[Sweep], storage: Storage
) -> Generator[str, None, list[str]]:
    """Rebuild sweeps one after the other; return the names of those that failed."""
    failed = []
    for sweep in sweeps:
        try:
            for line in rebuild(sweep, project, storage):
                yield line if len(sweeps) == 1 else f"{sweep.name}: {line}"
        except PcanError as error:
            if len(sweeps) == 1:
                raise
            failed.append(sweep.name)
            yield f"{sweep.name}: {error}"
    return failed


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
    outcome, seconds = (
        read_json(rundir.outcome) or {},
        seconds_of_jobs(rundir.read_starts(), history),
    )
    cause, reason = outcome.get("cause"), str(outcome.get("reason") or "")
    if outcome.get("state") in (State.COMPLETE, State.PRUNED, State.FAIL):
        state = str(outcome["state"])
        lease.tell(state, history, cause=cause, reason=reason, verdicts=verdicts, seconds=seconds)
        return f"{state.lower()} after {counted(len(history), 'epoch')}"
    lease.release(Phase.INTERRUPTED, cause=cause, reason=reason or "rebuilt", seconds=seconds)
    return f"{counted(len(history), 'epoch')}, to be gone on with"


def _verdicts(rundir: RunDir) -> list[dict[str, Any]]:
    """Return the verdicts of a rule, as the storage keeps them."""
    return [
        {key: value for key, value in record.items() if key != "time"}
        for record in rundir.read_verdicts()
        if record.get("rule") is not None
    ]
