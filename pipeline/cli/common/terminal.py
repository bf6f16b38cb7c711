"""What a launch shows: lines that stay, and on a terminal one live line for each running job."""

import contextlib
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.status import Status
from rich.text import Text

from pipeline.errors import PcanError, printable
from pipeline.launch.reporters import LineReporter, RunningTrial
from pipeline.launch.watchdog import read_progress
from pipeline.plan.gates import next_gate
from pipeline.plan.verdict import percent
from pipeline.report.progress import seconds_left, shown_time


class Terminal(LineReporter):
    """Lines to stderr; below them, on a terminal, where each running job is.

    `checked` says whether the launch got as far as its trials, so that the machine was ready.
    """

    def __init__(self) -> None:
        super().__init__(self.line)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._refreshed = 0.0
        self.checked = False
        self._waiting: Status | None = None

    def wait_for(self, text: str) -> None:
        """Show on a terminal what is being done until there is a line to print."""
        if self._console.is_terminal:
            self._waiting = self._console.status(printable(text))
            self._waiting.start()

    def line(self, text: str) -> None:
        self._stop_waiting()
        with contextlib.suppress(OSError):  # the terminal is gone, the trials are not
            self._console.print(Text(printable(text)))

    def on_trial_start(self, trial: RunningTrial) -> None:
        self.checked = True
        super().on_trial_start(trial)

    def on_launch_error(self, error: PcanError) -> None:
        """Note it: what is wrong before the checks have passed does not come here."""
        self.checked = True
        super().on_launch_error(error)

    def on_step_end(self, trials: Sequence[RunningTrial]) -> None:
        """Draw the running jobs again, at most four times a second."""
        if not self._console.is_terminal or time.monotonic() - self._refreshed < 0.25:
            return
        self._refreshed = time.monotonic()
        self._stop_waiting()
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        with contextlib.suppress(OSError):
            self._live.update(Text("\n".join(job_line(trial) for trial in trials)), refresh=True)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            with contextlib.suppress(OSError):
                self._waiting.stop()
            self._waiting = None

    def close(self) -> None:
        """Give the terminal back."""
        self._stop_waiting()
        if self._live is not None:
            self._live.stop()
            self._live = None


def job_line(trial: RunningTrial) -> str:
    """Return one line on a running job: where it is, the next gate, time left."""
    now = read_progress(trial.rundir)
    if trial.stopping is not None:
        return f"  {trial.name}: stopping ({trial.stopping.reason})"
    if not now:
        return f"  {trial.name}: starting"
    epoch, iters = int(now.get("epoch", 0)), int(now.get("iters") or 0)
    parts = [f"  {trial.name}: epoch {epoch}/{trial.epochs} {now.get('phase', '')}"]
    if iters:
        parts.append(f"{now.get('iter', 0)}/{iters}")
    if now.get("lr") is not None:
        parts.append(f"lr {now['lr']:.3g}")
    if now.get("loss") is not None:
        parts.append(f"loss {now['loss']:.3f}")
    if trial.history:
        parts.append(f"last {percent(trial.history[-1].top1)}")
    gate = next_gate(trial.rules.gates, epoch - 1)
    if gate is not None:
        parts.append(gate.distance(trial.history))
    left = seconds_left(trial.epochs, trial.history, now)
    if left is not None:
        parts.append(f"{shown_time(left)} left")
    return " | ".join(parts)
