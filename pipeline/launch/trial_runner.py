"""One claimed trial while this launcher runs it: follow its job, judge, report, end it.

The job only reports; every decision is made here, from the measurements, by `plan.judge`. The
storage may be away for a while: the job goes on and what happened is reported when it is back.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.job.exit_cause import Outcome, classify_exit, read_outcome
from pipeline.job.log_rotation import LogRotator
from pipeline.job.process import Command, JobProcess
from pipeline.job.slots import Slot
from pipeline.launch.control_files import ControlFiles
from pipeline.launch.heartbeat import LeaseHeartbeat
from pipeline.launch.messages import epoch_line, failure_text
from pipeline.launch.notify import Notice, no_notice
from pipeline.launch.overruled import overruled
from pipeline.launch.trial_history import TrialHistory
from pipeline.launch.trial_lease import Held
from pipeline.launch.warm import WarmStartNotice
from pipeline.launch.watchdog import Watchdog
from pipeline.plan.judge import Rules
from pipeline.plan.project import relative
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.shared.files import read_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.study.lease import LeaseLost

#: How long the ranks of a stuck job get to write their stacks before they are ended.
STACKS_S = 2.0

Say = Callable[[str], None]


class TrialRunner:
    """A trial that this launcher holds the lease of.

    Args:
        rules: asked for anew at each verdict, since some facts come from the running job.
        epochs: how many the trial has in all.
        grace_s: how long the job may take to stop once a rule has stopped it.
        next_of: names the variant that the ladder starts after a verdict that stops.
        say: prints one line for the user.
        notice: tells the user's own command of verdicts that stop or watch.
    """

    def __init__(
        self,
        lease: Held,
        rundir: RunDir,
        rules: Callable[[], Rules],
        slot: Slot,
        *,
        epochs: int,
        grace_s: float,
        next_of: Callable[[Verdict], str | None],
        say: Say,
        notice: Notice = no_notice,
    ) -> None:
        self.lease = lease
        self.rundir = rundir
        self.slot = slot
        self.epochs = epochs
        self.grace_s = grace_s
        self.process: JobProcess | None = None
        self.stopping: Outcome | None = None
        self.seconds = 0.0
        self._say = say
        self._notice = notice
        self._reporting = LeaseHeartbeat(lease, say)
        self._watchdog = Watchdog()
        self._logs = LogRotator([])
        self._deadline: float | None = None
        self._notes = ControlFiles(rundir, lease.name, say)
        self._warm = WarmStartNotice(rundir, lease.name, say)
        self._overruled = overruled(rundir)
        self._judging = TrialHistory(rundir, self._notes, rules, next_of, lease.name, say)
        self._reporting.pending = bool(self.history)

    @property
    def name(self) -> str:
        return self.lease.name

    @property
    def history(self) -> list[Measurement]:
        """The measured epochs, ascending."""
        return self._judging.history

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The verdicts that had something to say."""
        return self._judging.verdicts

    @property
    def ending(self) -> Verdict | None:
        """The verdict that ends the trial, None while it goes on."""
        return self._judging.ending

    @property
    def rules(self) -> Rules:
        """What the trial is judged by, as far as it is known by now."""
        return self._judging.rules

    @property
    def job_seconds(self) -> float:
        """How long jobs of this trial have run in this launch."""
        return self.seconds + (self.process.seconds if self.process is not None else 0.0)

    def start(self, command: Command, attempt: int) -> None:
        """Start the trial's job."""
        self._watchdog = Watchdog()
        ranks = map(self.rundir.rank_log, range(command.nproc))
        self._logs = LogRotator([self.rundir.job_log, *ranks])
        self.process = JobProcess(self.rundir, self.lease.token, command)
        where = f"GPUs {self.slot.shown}" if self.slot.gpus else "the CPU"
        after = (
            f", going on after epoch {self._judging.last_epoch}"
            if self._judging.last_epoch
            else ""
        )
        again = f" (attempt {attempt})" if attempt > 1 else ""
        folder = relative(self.rundir.root, command.cwd)
        self._say(f"{self.name} starts on {where}{again}{after}: {folder}")

    def poll(self) -> bool:
        """Take in new epochs: judge, report, and stop the job where a rule says so.

        Returns:
            Whether there were any.

        Raises:
            LeaseLost: another launcher has the trial now.
        """
        self._refuse_if_taken_over()
        if overruled(self.rundir) != self._overruled:
            self._overruled = overruled(self.rundir)
            self.rejudge()
        self._warm.check(bool(self.history))
        new = self._judging.read_new()
        for measurement in new:
            self._take_in(measurement)
        self._reporting.sync(self.history, self.verdicts)
        return bool(new)

    def request_stop(self, outcome: Outcome, grace_s: float | None) -> None:
        """Ask the job to end after its epoch.

        Args:
            outcome: what the job writes down when it stops.
            grace_s: how long it may take before its processes are ended; None: no limit.
        """
        if self.stopping is None:
            self.stopping = outcome
            self._notes.stop(outcome)
        if grace_s is not None:
            end = time.monotonic() + grace_s
            self._deadline = end if self._deadline is None else min(end, self._deadline)

    def rejudge(self) -> None:
        """Judge the finished epochs by rules that have changed; ask for a stop, or lift it."""
        before = self.ending
        self._judging.rejudge()
        self._reporting.pending = bool(self.history)
        if self.ending is not None and before is None:
            self._say(f"{self.name}: {self.ending.reason}; by the changed rules it is stopped.")
            if self.process is not None:
                self._stop_by(self.ending)
        elif self.ending is None and before is not None:
            self._say(f"{self.name} is no longer to stop: {before.reason}.")
            if self.stopping is not None and self.stopping.state is not None:
                self._notes.cancel_stop()
                self.clear_stop()

    def enforce_deadline(self) -> None:
        """End the processes of a job that has not stopped in time; call it again and again."""
        if self.process is None or self._deadline is None:
            return
        if time.monotonic() > self._deadline:
            if not self.process.terminated:
                self._say(f"{self.name}: its processes are told to end, in 10 s they are killed.")
            self.process.terminate()
            self.process.escalate()

    def check_stalled(self) -> None:
        """End a job that is stuck, with the stacks of its ranks in their logs."""
        if self.process is None:
            return
        self._logs.check()
        if self.stopping is not None:
            return
        stuck = self._watchdog.check(read_progress(self))
        if stuck is None:
            return
        self._say(f"{self.name}: {stuck}. It is ended.")
        self.process.ask_for_stacks()
        # Not written as a request to the job: a stuck one would never read it.
        self.stopping = Outcome(state="FAIL", cause="stall", reason=stuck)
        self._deadline = time.monotonic() + STACKS_S

    def ended(self) -> bool:
        """Whether the job's launcher has ended."""
        return self.process is None or not self.process.running()

    def reap(self) -> Outcome:
        """Take in the last epochs of an ended job and find out how it ended.

        Returns:
            The judge's word if a rule stopped the trial, else what the job says, else what
            its logs tell. No process of the trial is left.
        """
        process = self.process
        left = process.reap() if process is not None else []
        if process is not None:
            self.seconds += process.seconds
        self.process = None
        self.poll()
        if left:
            self._say(f"{self.name}: processes {left} would not end; end them by hand.")
        if self.ending is not None and self.ending.state is not None:
            return Outcome(
                state=self.ending.state, cause=self.ending.cause, reason=self.ending.reason
            )
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
            paused = outcome.cause == "paused"
            if paused and self.history:  # the other trials wait for its values
                self.lease.report(self.history, self.verdicts)
            self.lease.release(
                "paused" if paused else "interrupted",
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
        """Write `outcome.json`; what the run directory says is what the storage will say."""
        self._notes.outcome(outcome, self.history)

    def failure(self, outcome: Outcome) -> str:
        """Return the message for a failed trial: the cause, then where to read on."""
        return failure_text(self.name, self._judging.last_epoch, self.rundir, self._ranks, outcome)

    def clear_stop(self) -> None:
        """Forget requests of an earlier start of the job."""
        self.stopping = None
        self._deadline = None

    @property
    def _ranks(self) -> int:
        spec = self.rundir.read_spec()
        return (spec.nproc if spec else None) or 1

    def _refuse_if_taken_over(self) -> None:
        """Look at the run directory itself: a launcher cut off from the storage sees that."""
        if not self.rundir.is_held_by(self.lease.token):
            owner = read_json(self.rundir.owner) or {}
            raise LeaseLost(
                f"{self.name} was taken up by a launch on {owner.get('host')}; the job here is "
                "ended without a result."
            )

    def _take_in(self, measurement: Measurement) -> None:
        verdict = self._judging.add(measurement)
        self._reporting.pending = True
        line = epoch_line(self.name, self.epochs, measurement, verdict)
        self._say(line)
        if verdict.kind is not VerdictKind.GO:
            facts = self._judging.record_of(verdict)
            self._notice("verdict", line, {"trial": self.name, **facts})
        if verdict.stops and self.process is not None:
            self._stop_by(verdict)
        self._notes.acknowledge(measurement.epoch)

    def _stop_by(self, verdict: Verdict) -> None:
        stop = Outcome(state=verdict.state, cause=verdict.cause, reason=verdict.reason)
        self.request_stop(stop, self.grace_s)


def read_progress(attempt: TrialRunner) -> Mapping[str, Any]:
    """Return where a running job is inside its epoch, empty while it starts."""
    return read_json(attempt.rundir.progress) or {}
