"""Follow changes of the sweep file during a launch: read it again, record it, judge again.

Gates, patience, ladder and resources of the file as it is now hold for everything still running;
a changed recipe becomes a new trial of its study. A file that cannot be read changes nothing.
"""

import dataclasses
import os
import threading
import time
from collections.abc import Mapping, Sequence

from pipeline.errors import PcanError
from pipeline.job.resolve import Resolution
from pipeline.launch.context import LaunchContext
from pipeline.launch.control_files import overruled
from pipeline.launch.reporters import Reporter
from pipeline.launch.scheduler import candidates, check_order
from pipeline.launch.workdir import run_dir
from pipeline.plan.judge import Rules, judge
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.preflight.model_probe import DataPlacement, probe_models
from pipeline.preflight.plan_facts import resolve_and_check
from pipeline.shared.states import Kind, State
from pipeline.study.register import register_all, registration_lines
from pipeline.study.trial_rows import TrialRow

POLL_S = 1.0


@dataclasses.dataclass(frozen=True)
class _NewPlan:
    """What a changed file gave: a plan and its resolved variants, or a problem."""

    sweep: Sweep | None = None
    resolution: Resolution | None = None
    courses: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    problem: str = ""


class PlanReloader:
    """Reads the sweep file of a running launch again when it has changed."""

    def __init__(self, sweep: Sweep, reporter: Reporter) -> None:
        self._path = sweep.path
        self._reporter = reporter
        self._known = _stamp(self._path)
        self._polled = time.monotonic()
        self._thread: threading.Thread | None = None
        self._new: _NewPlan | None = None

    def poll(self, context: LaunchContext) -> LaunchContext | None:
        """Return the context by the changed file, None while it is unchanged.

        Reading a file may import torch in a child process, which takes seconds, so it is done in
        a thread; jobs are judged by the old rules meanwhile.
        """
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            return self._apply(context)
        if time.monotonic() - self._polled < POLL_S:
            return None
        self._polled = time.monotonic()
        stamp = _stamp(self._path)
        if stamp is not None and stamp != self._known:
            self._known = stamp
            self._thread = threading.Thread(target=self._read, args=(context,), daemon=True)
            self._thread.start()
        return None

    def _read(self, context: LaunchContext) -> None:
        try:
            sweep = read_sweep(self._path, context.project.root)
            if sweep.name != context.sweep.name:
                self._new = _NewPlan(problem=f'It is another sweep now, "{sweep.name}".')
                return
            gone = [name for name in context.sweep.variants if name not in sweep.variants]
            if gone:
                self._new = _NewPlan(problem=f"It has lost {', '.join(gone)}.")
                return
            check_order(sweep, context.order)
            self._new = self._resolve(sweep, context)
        except PcanError as error:
            self._new = _NewPlan(problem=str(error))

    def _resolve(self, sweep: Sweep, context: LaunchContext) -> _NewPlan:
        resolution = resolve_and_check(sweep, context.project)
        courses = probe_models(
            sweep,
            context.project,
            resolution,
            candidates(sweep, context.order),
            self._reporter.on_message,
            DataPlacement(root=context.data_root, sets=context.sets),
        )
        return _NewPlan(sweep, resolution, courses)

    def _apply(self, context: LaunchContext) -> LaunchContext | None:
        new, self._new = self._new, None
        file = context.sweep.shown_path
        if new is None or new.sweep is None or new.resolution is None:
            why = new.problem if new is not None else "It could not be read."
            self._reporter.on_message(
                f"{file} has changed. {why} The launch goes on by the plan as it was."
            )
            return None
        # The slots of this launch were cut for the size its jobs had when it began.
        job = new.sweep.job.model_copy(update={"gpus": context.sweep.job.gpus})
        sweep = new.sweep.model_copy(update={"job": job})
        try:
            registered = register_all(sweep, context.study_storage, new.resolution.hashes)
            reversals = changed_verdicts(sweep, context.project, context.rows())
        except PcanError as error:
            self._reporter.on_message(
                f"{file} has changed. {error} The launch goes on by the plan as it was."
            )
            return None
        lines = registration_lines(registered) or ["No rule of it is different."]
        self._reporter.on_message(f"{file} has changed: {' '.join(lines)}")
        if job.gpus != new.sweep.job.gpus:
            self._reporter.on_message(f"job.gpus stays {job.gpus} until the next launch.")
        for line in reversals:
            self._reporter.on_message(line)
        return dataclasses.replace(
            context, sweep=sweep, resolution=new.resolution, courses=new.courses
        )


def changed_verdicts(sweep: Sweep, project: Project, rows: Sequence[TrialRow]) -> list[str]:
    """Return a line on each finished trial that the present rules would have ended otherwise.

    Nothing finished is undone; a stopped trial can be continued.
    """
    continued = {row.continues for row in rows}
    lines = []
    for row in rows:
        if row.state not in (State.PRUNED, State.COMPLETE) or row.variant not in sweep.variants:
            continue
        if not row.is_regular or row.kind is Kind.SEARCH:  # no gate of the plan is for it
            continue
        stopped = any(
            v.get("verdict") in (VerdictKind.PRUNE, VerdictKind.STOP) for v in row.verdicts
        )
        now = _ending(sweep, project, row)
        if stopped and now is None and row.name not in continued:
            how = f"pcan sweep continue {row.name} --sweep {sweep.name}"
            lines.append(f"{row.name} was stopped; by the present rules it goes on: {how}")
        elif not stopped and now is not None and now.state == State.PRUNED:
            lines.append(
                f"{row.name} is {row.state.lower()} and stays so; by the present rules it would "
                f"have been stopped: {now.reason}."
            )
    return lines


def _ending(sweep: Sweep, project: Project, row: TrialRow) -> Verdict | None:
    """Return the verdict that ends a trial by the present rules, None if it goes on."""
    rundir = run_dir(project, sweep.name, row.variant, row.number)
    history = rundir.read_measurements()
    rules = dataclasses.replace(Rules.of(sweep.variants[row.variant]), overruled=overruled(rundir))
    verdicts = (judge(history[:count], rules) for count in range(1, len(history) + 1))
    return next((verdict for verdict in verdicts if verdict.stops), None)


def _stamp(path: os.PathLike[str]) -> tuple[int, int] | None:
    """Return the file's version (time and size), None while it is being replaced."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
