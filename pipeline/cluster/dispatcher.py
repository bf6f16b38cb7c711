"""`launch --on ENGINE`: keep as many jobs with the engine as there are trials to run.

This process only counts and submits; each job claims its trials itself, so when it ends or is
killed the jobs go on, and the next `launch --on ENGINE` finds them. A job that ended without being
asked to is replaced, until several in a row have brought no epoch.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cluster.executor import ClusterJob, Executor, command_digest
from pipeline.errors import NotReady, PcanError, StorageError
from pipeline.launch.completion import prune_paused
from pipeline.launch.context import LaunchContext
from pipeline.launch.orders import Schedule
from pipeline.launch.reporters import Reporter
from pipeline.launch.scheduler import count_unclaimed, running, schedule
from pipeline.launch.stop_requests import StopRequests
from pipeline.plan.verdict import percent
from pipeline.shared.files import read_lines
from pipeline.study.trial_rows import TrialRow

#: How often the engine is asked: soon after a change, and otherwise.
FAST_POLL_S = 1.0
SLOW_POLL_S = 10.0
#: A job that is being requeued may be shown as failed for a moment.
CONFIRM_ENDED_S = 2.0
#: Jobs at once, if `--slots` does not say.
DEFAULT_MAX_WORKERS = 32
#: Exit codes of a job's launch after which another one would fare no better.
_FATAL_EXIT_CODES = (2, 4, 5)
#: SLURM's way to say that a job's output could not be opened.
_NO_OUTPUT = -53


class Dispatcher:
    """A launch that places its jobs with an engine.

    Args:
        words: the command that a job runs.
        env: what a job gets in its environment beside this one's.
        most: jobs at once.
    """

    def __init__(
        self,
        engine: Executor,
        context: LaunchContext,
        stops: StopRequests,
        words: Sequence[str],
        env: Mapping[str, str],
        most: int,
        reporter: Reporter,
    ) -> None:
        self.cancelled = 0
        self._engine = engine
        self._context = context
        self._stops = stops
        self._words = words
        self._env = env
        self._most = most
        self._reporter = reporter
        self._known: dict[str, ClusterJob] = {}
        self._withdrawn: set[str] = set()
        self._seen_ended: dict[str, float] = {}
        self._rows: dict[str, TrialRow] = {}
        self._error: PcanError | None = None
        self._epochs = 0
        self._fruitless = 0
        self._changed_at = time.monotonic()

    def run(self) -> Schedule:
        """Submit and watch until the plan is done or this launch is stopped.

        Raises:
            PcanError: jobs end for a reason that another one would meet too.
        """
        order = command_digest(self._words)
        self._known = {job.id: job for job in self._engine.jobs() if job.order == order}
        for job in self._active():
            self._reporter.on_message(f"{self._title(job)} goes on ({job.state}).")
        plan = Schedule(wanted=())
        while True:
            try:
                plan, done = self._step()
            except (NotReady, StorageError) as error:
                done = False
                self._reporter.on_status(f"{error} Jobs go on; asking again.")
            if done:
                if self._error is not None:
                    raise self._error
                return plan
            recent = time.monotonic() - self._changed_at < 30
            self._stops.sleep(FAST_POLL_S if recent else SLOW_POLL_S)
            if self._stops.requested:
                return plan

    def _step(self) -> tuple[Schedule, bool]:
        """Look once; return what is wanted and whether nothing is left to do."""
        jobs = self._engine.jobs()
        rows = self._context.rows()  # after the jobs: why one has ended is there to be read
        plan = schedule(self._context, rows)
        if plan.beaten:  # by the last to arrive, whose job may be gone
            prune_paused(self._context, plan.beaten, self._reporter)
        self._take_in_rows(rows)
        self._take_in_jobs(jobs, plan)
        # A person who cancels a job wants its trial to rest for now.
        left = count_unclaimed(self._context.sweep, plan, rows) - self.cancelled
        active = self._active()
        if self._error is None:
            for _ in range(self._missing(left, rows)):
                self._submit()
                active = self._active()
        over = left <= 0 and not running(plan, rows)
        if over:
            self._withdraw()
        return plan, not active and (self._error is not None or over)

    def _withdraw(self) -> None:
        """Cancel jobs that still wait when nothing is left for them."""
        ids = [
            j.id for j in self._active() if j.phase == "pending" and j.id not in self._withdrawn
        ]
        if ids:
            self._engine.cancel(ids, waiting=True)
            self._withdrawn.update(ids)
            self._reporter.on_message(
                f"Nothing is left to run: what still waited is cancelled ({', '.join(ids)})."
            )

    def _missing(self, left: int, rows: Sequence[TrialRow]) -> int:
        """Return how many jobs more are needed for the trials that nobody runs."""
        holders = {str((row.facts.get("job") or {}).get("id")) for row in rows if _runs(row)}
        active = self._active()
        free = sum(job.id not in holders for job in active)
        return max(0, min(left - free, self._most - len(active)))

    def _submit(self) -> None:
        job = self._engine.submit(self._words, self._env)
        self._known[job] = ClusterJob(id=job, phase="pending", state="PENDING")
        self._changed_at = time.monotonic()
        self._reporter.on_message(
            f"{self._title(self._known[job])} is submitted; log {self._engine.log(job)}"
        )

    def _active(self) -> list[ClusterJob]:
        return [job for job in self._known.values() if job.phase != "ended"]

    def _take_in_jobs(self, jobs: Sequence[ClusterJob], plan: Schedule) -> None:
        """Say what has changed, and count what ended badly."""
        found = {job.id: job for job in jobs}
        for old in self._active():
            now = found.get(old.id)
            if now is None:  # ended, and forgotten by the engine
                now = ClusterJob(id=old.id, phase="ended", state="gone")
            if not self._surely(now) or (now.state, now.reason) == (old.state, old.reason):
                continue
            self._known[old.id] = now
            self._changed_at = time.monotonic()
            if now.phase == "ended":
                self._ended(now, plan)
            elif now.phase == "running" and old.phase != "running":
                self._reporter.on_message(f"{self._title(now)} runs on {now.node}.")
            elif now.phase == "pending":
                why = f": {now.reason}" if now.reason else ""
                self._reporter.on_message(f"{self._title(now)} waits{why}.")

    def _surely(self, job: ClusterJob) -> bool:
        """Whether to believe what a job is shown as; of one that has ended, a little later."""
        if job.phase != "ended":
            self._seen_ended.pop(job.id, None)
            return True
        now = time.monotonic()
        if job.id not in self._seen_ended:
            self._changed_at = now  # look again soon
        return now - self._seen_ended.setdefault(job.id, now) >= CONFIRM_ENDED_S

    def _ended(self, job: ClusterJob, plan: Schedule) -> None:
        title = self._title(job)
        if job.cancelled and job.id in self._withdrawn:
            return
        if job.cancelled:
            self.cancelled += 1
            self._reporter.on_message(
                f"{title} was cancelled; no other takes its place in this launch."
            )
            return
        code = job.exit_code
        if code in (0, 3) and job.state in ("COMPLETED", "FAILED", "gone"):
            return
        if code in _FATAL_EXIT_CODES or code == _NO_OUTPUT:
            self._error = self._error or NotReady(f"{title} {self._why(job)}")
            return
        if code == 75 and (self._stops.requested or not plan.wanted):  # a search's hours are over
            return
        self._fruitless += 1
        bound = self._context.sweep.job.retry.get("lost_worker", 0)
        self._reporter.on_message(f"{title} ended: {job.state}{_shown(code)}.")
        if self._fruitless > bound + 1:
            self._error = self._error or NotReady(
                f"{title} ended as {job.state}{_shown(code)}, the last of {self._fruitless} "
                f"without a new epoch. Read {self._engine.log(job.id)}; then launch again."
            )

    def _why(self, job: ClusterJob) -> str:
        """Say why a job's launch refused to run, in its own last words."""
        log = Path(self._engine.log(job.id))
        said = [line for line in read_lines(log) if line.strip()]
        if said:
            return f"ended with exit code {job.exit_code}: {said[-1]}"
        return (
            f"on {job.node or 'its node'} could not write {log}. Do the nodes see this folder? A "
            "project that jobs run in lies on a file system that all of them share."
        )

    def _take_in_rows(self, rows: Sequence[TrialRow]) -> None:
        """Say what the trials have done since the last look."""
        epochs = sum(row.epoch for row in rows)
        if epochs > self._epochs:
            self._epochs, self._fruitless = epochs, 0
        first = not self._rows
        for row in rows:
            old = self._rows.get(row.name)
            self._rows[row.name] = row
            line = _news(old, row)
            if line and not first:
                self._changed_at = time.monotonic()
                self._reporter.on_message(line)

    def _title(self, job: ClusterJob) -> str:
        return f"{self._engine.name.upper()} job {job.id}"


def _runs(row: TrialRow) -> bool:
    return row.phase == "running"


def _shown(code: int | None) -> str:
    if code is None or code == 0:
        return ""
    return f" (exit code {code})" if code > 0 else f" (signal {-code})"


def _news(old: TrialRow | None, row: TrialRow) -> str | None:
    """Return a line on what a trial has done, None for nothing worth one."""
    if old is None or row.superseded:
        return None
    if row.finished and not old.finished:
        return f"{row.name} {row.state.lower()}{_why(row)}."
    if row.phase != old.phase and row.phase == "running":
        where = f" on {row.host.split('/')[0]}, GPUs {row.gpus}" if row.host else ""
        return f"{row.name} starts{where} (attempt {row.attempt})."
    if row.phase != old.phase and row.phase == "interrupted":
        return f"{row.name} interrupted{_why(row)}."
    if row.epoch > old.epoch and row.last_top1 is not None:
        return f"{row.name} epoch {row.epoch}: top-1 {percent(row.last_top1)}"
    return None


def _why(row: TrialRow) -> str:
    return f": {row.reason.rstrip('.')}" if row.reason else ""
