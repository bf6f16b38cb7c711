"""What observes a launch: the interface, and the reporters for lines and for W&B.

The launcher calls its reporter at the moments that the methods name, from one thread but for
messages about a sweep file that is being read again. A reporter only observes: what goes wrong
in one of them ends no training.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import PcanError
from pipeline.job.exit_cause import Outcome
from pipeline.job.slots import Slot
from pipeline.launch.messages import completion_text, epoch_text, start_text
from pipeline.plan.judge import Rules
from pipeline.plan.verdict import Verdict
from pipeline.shared.counted import counted
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.shared.start_record import changes

#: How long the end of a launch waits for W&B's files to be complete.
MIRROR_CLOSE_S = 60.0


class ReportedTrial(Protocol):
    """What a report names of any trial, running or not."""

    @property
    def name(self) -> str: ...

    @property
    def epoch(self) -> int: ...


class RunningTrial(ReportedTrial, Protocol):
    """What reporters may read of a trial that this launch runs.

    `epoch` is the last one measured, `epochs` how many there will be, `number_of_start` counts
    the starts of its job from 1, `folder` is its run directory as a person would type it, `token`
    marks the processes of its job.
    """

    @property
    def token(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def number_of_start(self) -> int: ...

    @property
    def slot(self) -> Slot: ...

    @property
    def folder(self) -> str: ...

    @property
    def rundir(self) -> RunDir: ...

    @property
    def history(self) -> Sequence[Measurement]: ...

    @property
    def rules(self) -> Rules: ...

    @property
    def stopping(self) -> Outcome | None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchResult:
    """How a launch ended.

    Args:
        why: why nothing more is to be run, in the scheduler's words.
        failed: trials that failed here.
        interrupted: whether trials were given back unfinished.
        exit_code: as a script sees it; 0 also when gates pruned everything but a winner exists.
    """

    why: str
    failed: tuple[str, ...]
    interrupted: bool
    exit_code: int


class Reporter:
    """Observes a launch. Every method may be overridden; none does anything by itself."""

    _status = ""

    def on_message(self, text: str) -> None:
        """Something happened that has no method of its own."""

    def on_status(self, text: str) -> None:
        """What the launch waits for; becomes a message unless it repeats the status before."""
        if text != self._status:
            self._status = text
            self.on_message(text)

    def on_trial_start(self, trial: RunningTrial) -> None:
        """A job of the trial was started."""

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, verdict: Verdict
    ) -> None:
        """An epoch was measured and judged."""

    def on_trial_complete(self, trial: ReportedTrial, outcome: Outcome, details: str = "") -> None:
        """The storage has accepted how a trial ended, or that it was given back unfinished.

        Args:
            details: of a failed trial the end of its log, of any other what the plan does
                next.
        """

    def on_step_end(self, trials: Sequence[RunningTrial]) -> None:
        """All running trials were polled once."""

    def on_launch_end(self, result: LaunchResult) -> None:
        """The launch has nothing more to run, or was stopped."""

    def on_launch_error(self, error: PcanError) -> None:
        """The launch ends with this error."""

    def close(self) -> None:
        """Release what the reporter holds; called once, after everything else."""


class Reporters(Reporter):
    """Passes every event on to several reporters, in their order.

    What one of them raises is reported once and stops neither the others nor the launch.
    """

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = list(reporters)
        self._failed: set[Reporter] = set()

    def add(self, reporter: Reporter) -> None:
        self._reporters.append(reporter)

    def on_message(self, text: str) -> None:
        self._each(lambda one: one.on_message(text))

    def on_trial_start(self, trial: RunningTrial) -> None:
        self._each(lambda one: one.on_trial_start(trial))

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, verdict: Verdict
    ) -> None:
        self._each(lambda one: one.on_trial_result(trial, measurement, verdict))

    def on_trial_complete(self, trial: ReportedTrial, outcome: Outcome, details: str = "") -> None:
        self._each(lambda one: one.on_trial_complete(trial, outcome, details))

    def on_step_end(self, trials: Sequence[RunningTrial]) -> None:
        self._each(lambda one: one.on_step_end(trials))

    def on_launch_end(self, result: LaunchResult) -> None:
        self._each(lambda one: one.on_launch_end(result))

    def on_launch_error(self, error: PcanError) -> None:
        self._each(lambda one: one.on_launch_error(error))

    def close(self) -> None:
        self._each(lambda one: one.close())

    def _each(self, call: Callable[[Reporter], None]) -> None:
        for reporter in self._reporters:
            try:
                call(reporter)
            except Exception as error:
                if reporter not in self._failed:
                    self._failed.add(reporter)
                    name, kind = type(reporter).__name__, type(error).__name__
                    self.on_message(f"{name} failed: {kind}: {error}. Training goes on.")


@contextlib.contextmanager
def report_error(reporter: Reporter) -> Iterator[None]:
    """Report the PcanError that ends a launch, and pass it on."""
    try:
        yield
    except PcanError as error:
        reporter.on_launch_error(error)
        raise


class LineReporter(Reporter):
    """Turns every event into lines of text.

    Args:
        write: takes one line (or several, with line breaks).
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def on_message(self, text: str) -> None:
        self._write(text)

    def on_trial_start(self, trial: RunningTrial) -> None:
        spec = trial.rundir.read_spec()
        epoch = spec.resumed_epoch if spec is not None else 0
        number = trial.number_of_start
        self._write(start_text(trial.name, trial.slot, number, epoch, trial.folder))
        for line in changes(trial.rundir.read_starts()[-2:]):
            self._write(f"  changed, {line}")

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, verdict: Verdict
    ) -> None:
        self._write(epoch_text(trial.name, trial.epochs, measurement, verdict))

    def on_trial_complete(self, trial: ReportedTrial, outcome: Outcome, details: str = "") -> None:
        self._write(completion_text(trial.name, trial.epoch, outcome, details))


class WandbMirror(Protocol):
    """The part of `track.mirror` that a launch uses."""

    def trials_changed(self) -> None: ...

    def close(self, deadline_s: float = ...) -> Any: ...


class WandbReporter(Reporter):
    """Starts the W&B mirror with the first epoch, wakes it, and sums it up.

    The mirror is a child process that reads the run directories. It is not started before there
    is something to send, so that it takes no core from a job that is starting.

    Args:
        folder: `runs/<sweep>`.
        start: starts the mirror; None where W&B is disabled.
        console: prints what the user should know of it.
    """

    def __init__(
        self, folder: Path, start: Callable[[Path], WandbMirror] | None, console: Reporter
    ) -> None:
        self._folder = folder
        self._start = start
        self._console = console
        self._mirror: WandbMirror | None = None
        self._problem: str | None = None

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, verdict: Verdict
    ) -> None:
        del trial, measurement, verdict
        self._wake()

    def on_trial_complete(self, trial: ReportedTrial, outcome: Outcome, details: str = "") -> None:
        del trial, outcome, details
        self._wake()

    def on_launch_end(self, result: LaunchResult) -> None:
        """Let W&B's files be completed and sent."""
        del result
        command = f"pcan sweep sync {self._folder.name}"
        if self._problem is not None:
            self._console.on_message(
                f"W&B did not get everything ({self._problem}); make up for it: {command}"
            )
        if self._mirror is None:
            return
        summary = self._mirror.close(MIRROR_CLOSE_S)
        if summary.trouble:
            self._console.on_message(f"W&B: {summary.trouble}")
        if summary.sent < summary.trials:
            kept = f"{summary.written} of {counted(summary.trials, 'trial is', 'trials are')}"
            self._console.on_message(f"W&B: {kept} in offline files; send them: {command}")
        elif summary.trials:
            self._console.on_message(
                f"W&B: {counted(summary.trials, 'trial is', 'trials are')} sent."
            )

    def _wake(self) -> None:
        """Have the mirror read the run directories again; after a first failure do nothing."""
        if self._start is None or self._problem is not None:
            return
        try:
            if self._mirror is None:
                self._mirror = self._start(self._folder)
            self._mirror.trials_changed()
        except Exception as error:  # no process can be started, the folder is not writable, ...
            self._problem = f"{type(error).__name__}: {error}"
