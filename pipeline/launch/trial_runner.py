"""One claimed trial while this launcher runs it: poll its job, judge, report, end it.

The job only reports; every decision is made here, from the measurements, by `plan.judge`. The
storage may be away for a while: the job goes on and what happened is reported when it is back.
"""

import time
from typing import Any

from pipeline.job.exit_cause import Outcome, classify_exit, read_outcome
from pipeline.job.log_rotation import LogRotator
from pipeline.job.process import Command, JobProcess
from pipeline.job.slots import Slot
from pipeline.launch.control_files import ControlFiles, overruled
from pipeline.launch.messages import log_excerpt, weights_lines
from pipeline.launch.reporters import Reporter
from pipeline.launch.standstill import StandstillReader
from pipeline.launch.stop_requests import StopLevel, StopRequests
from pipeline.launch.trial_history import TrialHistory, TrialRules
from pipeline.launch.trial_lease import LeaseHeartbeat, TrialLease
from pipeline.launch.watchdog import Watchdog, log_sizes, read_progress, standing_ranks
from pipeline.plan.judge import Rules
from pipeline.plan.project import relative
from pipeline.plan.sweep import JobSettings
from pipeline.plan.verdict import Verdict
from pipeline.shared.files import read_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause, Phase, State
from pipeline.study.lease import LeaseLost

#: How long the ranks of a stalled job get to write their stacks before they are ended.
STACKS_S = 2.0


class TrialRunner:
    """A trial that this launcher holds the lease of.

    Args:
        rules: what the trial is judged by; may change while it runs.
        epochs: how many the trial will have in all.
        grace_s: how long the job may take to stop once a rule has stopped it.
    """

    def __init__(
        self,
        lease: TrialLease,
        rundir: RunDir,
        rules: TrialRules,
        slot: Slot,
        *,
        epochs: int,
        grace_s: float,
        reporter: Reporter,
    ) -> None:
        self.lease = lease
        self.rundir = rundir
        self.slot = slot
        self.epochs = epochs
        self.grace_s = grace_s
        self.process: JobProcess | None = None
        self.stopping: Outcome | None = None
        self.number_of_start = lease.attempt
        self.folder = str(rundir.root)
        self.seconds = 0.0
        self._reporter = reporter
        self._heartbeat = LeaseHeartbeat(lease, reporter)
        self._watchdog = Watchdog()
        self._standstill = StandstillReader({})
        self._logs = LogRotator([])
        self._deadline: float | None = None
        self._log_sizes: list[int] | None = None  # of a stalled job, before its stacks
        self._files = ControlFiles(rundir, lease.name, reporter)
        self._warm_start_pending = True
        self._overruled = overruled(rundir)
        self._history = TrialHistory(rundir, self._files, rules, lease.name, reporter)
        self._heartbeat.pending = bool(self.history)

    @property
    def name(self) -> str:
        return self.lease.name

    @property
    def token(self) -> str:
        return self.lease.token

    @property
    def history(self) -> list[Measurement]:
        """The measured epochs, ascending."""
        return self._history.measurements

    @property
    def epoch(self) -> int:
        """The last measured epoch, 0 if there is none."""
        return self._history.last_epoch

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """Records of the verdicts by which a rule acted."""
        return self._history.verdicts

    @property
    def ending(self) -> Verdict | None:
        """The verdict that ends the trial, None while it goes on."""
        return self._history.ending

    @property
    def rules(self) -> Rules:
        """What the trial is judged by, as far as it is known by now."""
        return self._history.rules

    @property
    def job_seconds(self) -> float:
        """How long jobs of this trial have run in this launch."""
        return self.seconds + (self.process.seconds if self.process is not None else 0.0)

    def start(self, command: Command, number: int) -> None:
        """Start the trial's job for the `number`-th time, counted from 1."""
        self._watchdog = Watchdog()
        ranks = map(self.rundir.rank_log, range(command.nproc))
        self._logs = LogRotator([self.rundir.job_log, *ranks])
        self.process = JobProcess(self.rundir, self.lease.token, command)
        self._standstill = StandstillReader(self.process.log_start.sizes)
        self.number_of_start = number
        self.folder = relative(self.rundir.root, command.cwd)
        self._reporter.on_trial_start(self)

    def poll(self) -> bool:
        """Handle new epochs: judge, report, and stop the job where a rule says so.

        Returns:
            Whether there were any.

        Raises:
            LeaseLost: another launcher has the trial now.
        """
        self._check_ownership()
        if overruled(self.rundir) != self._overruled:
            self._overruled = overruled(self.rundir)
            self.rejudge()
        self._report_warm_start()
        new = self._history.read_new()
        for measurement in new:
            self._handle(measurement)
        self._heartbeat.sync(self.history, self.verdicts)
        return bool(new)

    def apply_stop_requests(self, stops: StopRequests) -> None:
        """Have the job stop as the launch was asked to."""
        if stops.requested:
            self.request_stop(stops.outcome(), stops.grace_s)
        if stops.level >= StopLevel.KILL and self.process is not None:
            self.process.kill()

    def enforce_time_limit(self, job: JobSettings) -> None:
        """Have a job stop after its epoch once it has run for `job.max_hours`."""
        if job.max_hours is None or self.process is None or self.stopping is not None:
            return
        if self.process.seconds > 3600 * job.max_hours:
            reason = f"the time limit of {job.max_hours:g} h (job.max_hours) is reached"
            late = Outcome(state=None, cause=Cause.TIMEOUT, reason=reason)
            self.request_stop(late, job.stop_grace_s)

    def request_stop(self, outcome: Outcome, grace_s: float | None) -> None:
        """Ask the job to end after its epoch.

        Args:
            outcome: what the job writes down when it stops.
            grace_s: how long it may take before its processes are ended; None: no limit.
        """
        if self.stopping is None:
            self.stopping = outcome
            self._files.request_stop(outcome)
        if grace_s is not None:
            end = time.monotonic() + grace_s
            self._deadline = end if self._deadline is None else min(end, self._deadline)

    def rejudge(self) -> None:
        """Judge the finished epochs by rules that have changed; request a stop, or cancel it."""
        before = self.ending
        self._history.rejudge()
        self._heartbeat.pending = bool(self.history)
        if self.ending is not None and before is None:
            self._reporter.on_message(
                f"{self.name}: {self.ending.reason}; by the changed rules it is stopped."
            )
            if self.process is not None:
                self.request_stop(outcome_of(self.ending), self.grace_s)
        elif self.ending is None and before is not None:
            self._reporter.on_message(f"{self.name} is no longer to stop: {before.reason}.")
            if self.stopping is not None and self.stopping.state is not None:
                self._files.cancel_stop()
                self.clear_stop()

    def enforce_deadline(self) -> None:
        """SIGTERM after the deadline, SIGKILL 10 s later; called once a step."""
        if self.process is None or self._deadline is None:
            return
        if time.monotonic() > self._deadline:
            self._report_stall()
            if not self.process.terminated:
                self._reporter.on_message(
                    f"{self.name}: its processes get SIGTERM now and are killed in 10 s."
                )
            self.process.terminate()
            self.process.escalate()

    def check_stalled(self) -> None:
        """End a job that makes no steps, with the stacks of its ranks in their logs."""
        if self.process is None:
            return
        self._logs.check()
        if self.stopping is not None:
            return
        problem = self._watchdog.check(read_progress(self.rundir))
        if problem is None:
            self.stopping = self._standstill.report(self.name, self._watchdog, self._reporter)
            self._deadline = time.monotonic() if self.stopping is not None else self._deadline
            return
        self._log_sizes = log_sizes(self.rundir, self._ranks)
        self.process.ask_for_stacks()
        # Not written as a request to the job: a stalled one would never read it.
        self.stopping = Outcome(state=State.FAIL, cause=Cause.STALL, reason=problem)
        self._deadline = time.monotonic() + STACKS_S

    def _report_stall(self) -> None:
        """Report a stall once, with the rank that the others wait for."""
        if self._log_sizes is None or self.stopping is None:
            return
        reason = f"{self.stopping.reason}{standing_ranks(self.rundir, self._log_sizes)}"
        self._log_sizes = None
        self.stopping = Outcome(state=State.FAIL, cause=Cause.STALL, reason=reason)
        self._reporter.on_message(f"{self.name}: {reason}. It is ended.")

    def ended(self) -> bool:
        """Whether the job's launcher has ended."""
        return self.process is None or not self.process.running()

    def kill(self) -> None:
        """End every process of the job at once and wait for them."""
        if self.process is not None:
            self.process.kill()
            self.process.reap()

    def reap(self) -> Outcome:
        """Handle the last epochs of an ended job and find out how it ended.

        Returns:
            The verdict's outcome if a rule stopped the trial, else what the job wrote, else what
            its logs show. No process of the trial is left.
        """
        process = self.process
        left = process.reap() if process is not None else []
        if process is not None:
            self.seconds += process.seconds
        self.process = None
        self.poll()
        if left:
            self._reporter.on_message(
                f"{self.name}: processes {left} would not end; end them by hand."
            )
        if self.ending is not None and self.ending.state is not None:
            return outcome_of(self.ending)
        outcome = read_outcome(self.rundir)
        if outcome is not None:
            return outcome
        if self.stopping is not None:
            return self.stopping
        code, start = (process.returncode, process.log_start) if process else (None, None)
        return classify_exit(self.rundir, code, self._ranks, start)

    def report_end(self, outcome: Outcome) -> None:
        """End the trial in the storage, or give it back unfinished."""
        if outcome.state is None:
            paused = outcome.cause == Cause.PAUSED
            if paused and self.history:  # the other trials wait for its values
                self.lease.report(self.history, self.verdicts)
            self.lease.release(
                Phase.PAUSED if paused else Phase.INTERRUPTED,
                cause=outcome.cause,
                reason=outcome.reason,
                seconds=self.seconds,
            )
            return
        self.lease.tell(
            outcome.state,
            self.history,
            cause=outcome.cause,
            reason=outcome.reason,
            verdicts=self.verdicts,
            seconds=self.seconds,
        )

    def write_outcome(self, outcome: Outcome) -> None:
        """Write `outcome.json`, from which the storage is brought up to date."""
        self._files.write_outcome(outcome, self.history)

    def log_excerpt(self) -> str:
        """Return the last lines of the log that says most about a failure."""
        return log_excerpt(self.rundir, self._ranks)

    def clear_stop(self) -> None:
        """Forget requests of an earlier start of the job."""
        self.stopping = None
        self._deadline = self._log_sizes = None

    @property
    def _ranks(self) -> int:
        spec = self.rundir.read_spec()
        return (spec.nproc if spec else None) or 1

    def _check_ownership(self) -> None:
        """Read the run directory's owner: a launcher cut off from the storage sees that."""
        if not self.rundir.is_held_by(self.lease.token):
            owner = read_json(self.rundir.owner) or {}
            raise LeaseLost(
                f"{self.name} was taken over by a launch on {owner.get('host')}; the job here is "
                "ended without a result."
            )

    def _report_warm_start(self) -> None:
        """Report once what the job found in the starting weights, as soon as it is known.

        Of a trial that has epochs an earlier attempt reported it.
        """
        if not self._warm_start_pending:
            return
        report = (read_json(self.rundir.facts) or {}).get("warm_start")
        trained = bool(self.history)
        if report is not None and not trained:
            for line in weights_lines(self.name, report.get("notes") or ()):
                self._reporter.on_message(line)
        self._warm_start_pending = report is None and not trained

    def _handle(self, measurement: Measurement) -> None:
        """Judge one epoch and let the job, which waits for it, go on or stop."""
        verdict = self._history.add(measurement)
        self._heartbeat.pending = True
        if verdict.stops and self.process is not None:
            self.request_stop(outcome_of(verdict), self.grace_s)
        self._files.acknowledge(measurement.epoch)
        self._reporter.on_trial_result(self, measurement, verdict)


def outcome_of(verdict: Verdict) -> Outcome:
    """Return how a trial ends by a verdict that stops it."""
    return Outcome(state=verdict.state, cause=verdict.cause, reason=verdict.reason)
