"""`launch --on NAME`: keep as many cluster jobs as there are trials to run.

This process only counts and submits; each job claims its trials itself, so when it ends or is
killed the jobs go on, and the next `launch --on NAME` finds them. A job that ended without being
asked to is replaced, until several in a row have finished no epoch.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cluster.executor import ClusterJob, Executor, JobPhase, command_digest
from pipeline.errors import NotReady, PcanError, StorageError
from pipeline.launch.completion import prune_paused
from pipeline.launch.context import LaunchContext, Schedule
from pipeline.launch.messages import epoch_text
from pipeline.launch.reporters import Reporter
from pipeline.launch.scheduler import count_unclaimed, running, schedule
from pipeline.launch.starting_weights import register_stages
from pipeline.launch.stop_requests import StopRequests
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.shared.files import read_lines
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Cause, Phase
from pipeline.study.trial_rows import TrialRow

#: How often the scheduler is polled: soon after a change, and otherwise.
FAST_POLL_S = 1.0
SLOW_POLL_S = 10.0
#: A job that is being requeued may be shown as failed for a moment.
CONFIRM_ENDED_S = 2.0
#: Jobs at once, if `--slots` does not say.
DEFAULT_MAX_WORKERS = 32
#: Exit codes of a job's launch that another one would end with too.
_FATAL_EXIT_CODES = (2, 4, 5)
#: Exit codes of a launch that has seen its trials through, failed ones included.
_DONE_EXIT_CODES = (0, 3)
#: What a search's launch returns when its hours are used up.
_INTERRUPTED_EXIT_CODE = 75
#: How long after a change the scheduler is polled often.
_FAST_FOR_S = 30.0


class Dispatcher:
    """A launch that has a scheduler run its jobs.

    Args:
        argv: the command that a job runs.
        env: what a job gets in its environment beside this one's.
        max_workers: jobs at once.
    """

    def __init__(
        self,
        executor: Executor,
        context: LaunchContext,
        stops: StopRequests,
        argv: Sequence[str],
        env: Mapping[str, str],
        max_workers: int,
        reporter: Reporter,
    ) -> None:
        self.cancelled = 0
        self._executor = executor
        self._context = context
        self._stops = stops
        self._argv = argv
        self._digest = command_digest(argv)
        self._env = env
        self._max_workers = max_workers
        self._reporter = reporter
        self._jobs: dict[str, ClusterJob] = {}
        self._withdrawn: set[str] = set()
        self._seen_ended: dict[str, float] = {}
        self._rows: dict[str, TrialRow] = {}
        self._error: PcanError | None = None
        self._epochs = 0
        self._fruitless = 0
        self._changed_at = time.monotonic()

    def run(self) -> Schedule:
        """Submit and poll until the plan is done or this launch is stopped.

        Raises:
            PcanError: jobs end for a reason that would end another one too.
        """
        self._jobs = {job.id: job for job in self._executor.list_jobs() if self._is_mine(job)}
        for job in self._active():
            self._reporter.on_message(f"{self._title(job)} goes on ({job.state}).")
        wanted = Schedule(requests=())
        while True:
            try:
                wanted, done = self._step()
            except (NotReady, StorageError) as error:
                done = False
                self._reporter.on_status(f"{error} Jobs go on; asking again.")
            if done:
                if self._error is not None:
                    raise self._error
                return wanted
            recent = time.monotonic() - self._changed_at < _FAST_FOR_S
            self._stops.sleep(FAST_POLL_S if recent else SLOW_POLL_S)
            if self._stops.requested:
                return wanted

    def _step(self) -> tuple[Schedule, bool]:
        """Poll once; return what is wanted and whether nothing is left to do."""
        jobs = self._executor.list_jobs()
        rows = self._context.rows()  # after the jobs: then they say why one has ended
        wanted = schedule(self._context, rows)
        if wanted.to_prune:  # by the last to arrive, whose job may be gone
            prune_paused(self._context, wanted.to_prune, self._reporter)
        rows = register_stages(self._context, wanted, rows, self._reporter.on_message)
        self._update_rows(rows)
        self._adopt(jobs)
        self._update_jobs(jobs, wanted)
        # Do not replace a job that a user has cancelled.
        left = count_unclaimed(self._context.sweep, wanted, rows) - self.cancelled
        active = self._active()
        if self._error is None:
            for _ in range(self._missing(left, rows)):
                self._submit()
                active = self._active()
        over = left <= 0 and not running(wanted, rows)
        if over:
            self._withdraw()
        return wanted, not active and (self._error is not None or over)

    def _withdraw(self) -> None:
        """Cancel pending jobs when nothing is left for them."""
        pending = [job.id for job in self._active() if job.phase is JobPhase.PENDING]
        ids = [job for job in pending if job not in self._withdrawn]
        if ids:
            self._executor.cancel(ids, pending_only=True)
            self._withdrawn.update(ids)
            self._reporter.on_message(
                f"Nothing is left to run: what still waited is cancelled ({', '.join(ids)})."
            )

    def _missing(self, left: int, rows: Sequence[TrialRow]) -> int:
        """Return how many more jobs are needed for the trials that no job runs."""
        holders = {str((row.facts.get("job") or {}).get("id")) for row in rows if _runs(row)}
        active = self._active()
        free = sum(job.id not in holders for job in active)
        return max(0, min(left - free, self._max_workers - len(active)))

    def _submit(self) -> None:
        job = ClusterJob(
            id=self._executor.submit(self._argv, self._env),
            phase=JobPhase.PENDING,
            state=JobPhase.PENDING.name,
        )
        self._jobs[job.id] = job
        self._changed_at = time.monotonic()
        self._reporter.on_message(
            f"{self._title(job)} is submitted; log {self._executor.log(job.id)}"
        )

    def _is_mine(self, job: ClusterJob) -> bool:
        return job.digest == self._digest

    def _adopt(self, jobs: Sequence[ClusterJob]) -> None:
        """Take over jobs of this command that this launch does not know.

        A busy scheduler answers "Socket timed out" to a submission that it has taken; another
        launch of the same command may have submitted one too.
        """
        for job in jobs:
            if self._is_mine(job) and job.id not in self._jobs and job.phase is not JobPhase.ENDED:
                self._jobs[job.id] = job
                self._reporter.on_message(f"{self._title(job)} is there already, and taken over.")

    def _active(self) -> list[ClusterJob]:
        return [job for job in self._jobs.values() if job.phase is not JobPhase.ENDED]

    def _update_jobs(self, jobs: Sequence[ClusterJob], wanted: Schedule) -> None:
        """Print what has changed, and count the jobs that ended without an epoch."""
        listed = {job.id: job for job in jobs}
        for old in self._active():
            new = listed.get(old.id)
            if new is None:  # ended, and forgotten by the scheduler
                new = ClusterJob(id=old.id, phase=JobPhase.ENDED, state="gone")
            if not self._confirmed(new) or (new.state, new.reason) == (old.state, old.reason):
                continue
            self._jobs[old.id] = new
            self._changed_at = time.monotonic()
            if new.phase is JobPhase.ENDED:
                self._ended(new, wanted)
            elif new.phase is JobPhase.PENDING:
                why = f": {new.reason}" if new.reason else ""
                self._reporter.on_message(f"{self._title(new)} waits{why}.")
            elif old.phase is not JobPhase.RUNNING:
                self._reporter.on_message(f"{self._title(new)} runs on {new.node}.")

    def _confirmed(self, job: ClusterJob) -> bool:
        """Return whether to believe a job's phase: that it has ended, only a little later."""
        if job.phase is not JobPhase.ENDED:
            self._seen_ended.pop(job.id, None)
            return True
        now = time.monotonic()
        if job.id not in self._seen_ended:
            self._changed_at = now  # poll again soon
        return now - self._seen_ended.setdefault(job.id, now) >= CONFIRM_ENDED_S

    def _ended(self, job: ClusterJob, wanted: Schedule) -> None:
        """Decide whether a job that has ended is replaced, and whether the launch goes on."""
        title, code = self._title(job), job.exit_code
        if job.cancelled:
            if job.id not in self._withdrawn:
                self.cancelled += 1
                self._reporter.on_message(
                    f"{title} was cancelled; no other takes its place in this launch."
                )
            return
        if job.exited and code in _DONE_EXIT_CODES:
            return
        if job.output_failed or code in _FATAL_EXIT_CODES:
            self._error = self._error or NotReady(f"{title} {self._refusal(job)}")
            return
        if code == _INTERRUPTED_EXIT_CODE and (self._stops.requested or not wanted.requests):
            return
        self._fruitless += 1
        bound = self._context.sweep.job.retry.get(Cause.LOST_WORKER, 0)
        self._reporter.on_message(f"{title} ended: {job.state}{_exit_text(code)}.")
        if self._fruitless > bound + 1:
            self._error = self._error or NotReady(
                f"{title} ended as {job.state}{_exit_text(code)}, the last of {self._fruitless} "
                f"without a new epoch. Read {self._executor.log(job.id)}; then launch again."
            )

    def _refusal(self, job: ClusterJob) -> str:
        """Return why a job's launch refused to run: the last line of its output."""
        log = self._executor.log(job.id)
        lines = [line for line in read_lines(log) if line.strip()]
        if lines:
            return f"ended with exit code {job.exit_code}: {lines[-1]}"
        return (
            f"on {job.node or 'its node'} could not write {log}. Do the nodes see this folder? A "
            "project that jobs run in has to be on a file system that all of them share."
        )

    def _update_rows(self, rows: Sequence[TrialRow]) -> None:
        """Print what the trials have done since the last poll."""
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
        return f"{self._executor.title} job {job.id}"


def _runs(row: TrialRow) -> bool:
    return row.phase == Phase.RUNNING


def _exit_text(code: int | None) -> str:
    if code is None or code == 0:
        return ""
    return f" (exit code {code})" if code > 0 else f" (signal {-code})"


def _news(old: TrialRow | None, row: TrialRow) -> str | None:
    """Return a line on what a trial has done, None if there is nothing to report."""
    if old is None or row.superseded:
        return None
    if row.finished and not old.finished:
        return f"{row.name} {row.state.lower()}{_why(row)}."
    if row.phase != old.phase and row.phase == Phase.RUNNING:
        where = f" on {row.host.split('/')[0]}, GPUs {row.gpus}" if row.host else ""
        return f"{row.name} starts{where} (attempt {row.attempt})."
    if row.phase != old.phase and row.phase == Phase.INTERRUPTED:
        return f"{row.name} interrupted{_why(row)}."
    if row.epoch > old.epoch and row.last_top1 is not None:
        epochs = row.facts.get("epochs")
        measurement = Measurement(epoch=row.epoch, top1=row.last_top1, lr=row.lr)
        return epoch_text(row.name, epochs, measurement, _verdict(row, row.last_top1))
    return None


def _verdict(row: TrialRow, top1: float) -> Verdict:
    """Return what the rules said to the last epoch, from the record in the storage."""
    records = [record for record in row.verdicts if record.get("epoch") == row.epoch]
    record: Mapping[str, Any] = records[-1] if records else {"verdict": VerdictKind.GO}
    return Verdict(
        epoch=row.epoch,
        top1=top1,
        kind=VerdictKind(record["verdict"]),
        reason=str(record.get("reason") or ""),
        rule=record.get("rule"),
        std_error=record.get("std_error"),
    )


def _why(row: TrialRow) -> str:
    return f": {row.reason.rstrip('.')}" if row.reason else ""
