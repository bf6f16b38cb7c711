"""What is started again after a failure: a job in the same launch, a recipe in a later one.

A recipe is run again that failed for a cause outside of it: code, weights, data, the machine. A
named variant is run again whenever it is named; any other as soon as something that its job reads
has changed since it was started.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import InputError
from pipeline.job.exit_cause import Outcome
from pipeline.job.provenance import job_versions, versions
from pipeline.job.torch_tools import code_root
from pipeline.launch.context import LaunchContext
from pipeline.launch.continuation import continue_as_new_trial
from pipeline.launch.control_files import overrule_records
from pipeline.launch.resume_checkpoint import rejected_checkpoint
from pipeline.launch.scheduler import all_variants, weight_makers
from pipeline.launch.trial_runner import TrialRunner
from pipeline.launch.workdir import run_dir
from pipeline.plan.ladder import walk
from pipeline.plan.project import relative
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause, State, is_repairable
from pipeline.study.trial_rows import TrialRow, ended_recipes, recipe_row

#: Between writing a file and its last change of place or mode, if it was not copied since.
UNTOUCHED_S = 60.0
#: Folders of a checkout that hold nothing a job imports.
_PASSED_OVER = ("runs", "exports", "node_modules", "__pycache__", "site-packages")


class RetryPolicy:
    """Counts the starts of each trial in this launch.

    Args:
        bounds: by cause, how many starts in a row may bring no new epoch (`job.retry`).
    """

    def __init__(self, bounds: Mapping[str, int]) -> None:
        self.bounds = bounds
        self._starts: dict[str, int] = {}
        self._fruitless: dict[str, int] = {}
        self._epochs: dict[str, int] = {}

    def started(self, trial: TrialRunner) -> int:
        """Record a start; return which one of the trial it is, from 1."""
        self._epochs[trial.name] = len(trial.history)
        return trial.lease.attempt + self._starts.get(trial.name, 0)

    def allowed(self, trial: TrialRunner, outcome: Outcome) -> bool:
        """Whether another start may get past what ended this one.

        After a checkpoint that the job rejected the one before is tried, whatever the bounds.
        """
        if outcome.state != State.FAIL or trial.ending is not None:
            return False
        if outcome.cause == Cause.BAD_CHECKPOINT:
            return rejected_checkpoint(trial.rundir, {"cause": outcome.cause}) is not None
        if len(trial.history) > self._epochs[trial.name]:
            self._fruitless[trial.name] = 0
        return self._fruitless.get(trial.name, 0) < self.bounds.get(outcome.cause or "", 0)

    def next_start(self, trial: TrialRunner) -> int:
        """Count another start; return its number."""
        name = trial.name
        self._fruitless[name] = self._fruitless.get(name, 0) + 1
        self._starts[name] = self._starts.get(name, 0) + 1
        return trial.lease.attempt + self._starts[name]


def retry_failed(context: LaunchContext) -> list[str]:
    """Enqueue again what failed and may succeed now; return a line for each such trial.

    Raises:
        PcanError: a run directory cannot be made, the storage cannot be written.
    """
    order, rows = context.order, context.rows()
    if order.search is not None or order.confirms:
        return []
    lines = []
    recipes = context.recipes(rows)
    for name in _wanted(context, rows, recipes):
        row = recipe_row(rows, name, recipes.get(name, ""))
        if row is None or row.state != State.FAIL or not is_repairable(row.cause):
            continue
        why = "as named" if order.variants else _change(context, row)
        if why is not None and row.remote_host(context.project.root) is None:
            lines += _retry(context, row, why)
    return lines


def _wanted(context: LaunchContext, rows: list[TrialRow], recipes: Mapping[str, str]) -> list[str]:
    """Return the variants whose recipes this launch would run, the makers of weights first."""
    sweep, order = context.sweep, context.order
    if order.variants:
        chosen = list(order.variants)
    elif order.policy == "all":
        chosen = all_variants(sweep)
    else:
        chosen = list(walk(sweep, ended_recipes(sweep, rows, recipes)).path)
    return [*weight_makers(sweep, chosen), *chosen]


def _retry(context: LaunchContext, row: TrialRow, why: str) -> list[str]:
    sweep, project = context.sweep, context.project
    earlier = overrule_records(run_dir(project, sweep.name, row.variant, row.number))
    try:
        number = continue_as_new_trial(sweep, project, context.study_storage, row, earlier)
    except InputError:  # another launch has enqueued it in this moment
        return []
    return [f"{row.name} failed ({row.cause}); it is run again as {row.variant}/{number}: {why}."]


def _change(context: LaunchContext, row: TrialRow) -> str | None:
    """Return what a failed trial's job reads and has changed since its start, None if nothing."""
    sweep, project = context.sweep, context.project
    rundir = run_dir(project, sweep.name, row.variant, row.number)
    spec = rundir.read_spec()
    if spec is None:
        return None
    now = {**versions(("pcan",)), **job_versions(sweep.job, project.root)}
    for package, version in now.items():
        if spec.versions.get(package) not in (None, version):
            return f"{package} is {version} now, it was {spec.versions[package]}"
    for file in _inputs(context, row):
        if _changed_since(file, rundir):
            return f"{relative(file, project.root)} has changed since"
    return None


def _changed_since(file: Path, rundir: RunDir) -> bool:
    """Whether a file was written, or put in its place, after the run's last start.

    The time of a change of place counts only while the run directory itself is where it was made:
    copying a project changes it for every file.
    """
    start = rundir.spec.stat()
    try:
        found = file.stat()
    except OSError:
        return False
    in_place = start.st_ctime - start.st_mtime < UNTOUCHED_S
    changed = max(found.st_mtime, found.st_ctime) if in_place else found.st_mtime
    return changed > max(start.st_mtime, start.st_ctime if in_place else 0.0)


def _inputs(context: LaunchContext, row: TrialRow) -> Iterator[Path]:
    """Yield what can repair a trial: its weights, its annotations, the modules of its code."""
    sweep, root = context.sweep, context.project.root
    start = sweep.variants[row.variant].warm_start
    if start is not None and start.checkpoint is not None:
        yield root / start.checkpoint
    facts = context.resolution.configs[row.variant].facts
    yield from (root / str(name) for name in (facts.get("ann_files") or {}).values())
    imports = (facts.get("custom_imports") or {}).get("imports") or []
    for module in [imports] if isinstance(imports, str) else imports:
        yield root.joinpath(*str(module).split(".")).with_suffix(".py")
    if sweep.job.code_root is not None:
        yield from _modules(Path(code_root(sweep.job.code_root, root)))


def _modules(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in _PASSED_OVER]
        yield from (Path(where, name) for name in sorted(files) if name.endswith(".py"))
