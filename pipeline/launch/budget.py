"""What a launch may spend: `--max-hours` and `--gpu-hours`."""

import dataclasses
import time
from collections.abc import Iterable

from pipeline.launch.trial_runner import TrialRunner


@dataclasses.dataclass
class Budget:
    """A limit for one launch; what earlier launches spent counts only in a search.

    Args:
        max_hours: hours by the clock since the launch began.
        gpu_hours: hours times GPUs of all its jobs (on the CPU: times processes).
        before: GPU hours that count as spent, beside those of this launch's jobs.
        whose: what is limited, for messages.
    """

    max_hours: float | None = None
    gpu_hours: float | None = None
    before: float = 0.0
    whose: str = "launch"
    _began: float = dataclasses.field(default_factory=time.monotonic)
    _spent: float = 0.0

    def ended(self, trial: TrialRunner, per_job: int) -> None:
        """Count a trial that no longer runs."""
        self._spent += trial.seconds * per_job

    def count_from(self, hours: float) -> None:
        """Replace what is counted as spent by hours that include every trial that ended here."""
        self.before, self._spent = hours, 0.0

    def exceeded(self, trials: Iterable[TrialRunner], per_job: int) -> str | None:
        """Return which limit is reached, None while there is something left."""
        if self.max_hours is not None and self._hours() >= self.max_hours:
            return f"the launch's {self.max_hours:g} h (--max-hours) are over"
        if self.gpu_hours is None:
            return None
        running = sum(trial.job_seconds for trial in trials)
        spent = 3600 * self.before + self._spent + running * per_job
        if spent < 3600 * self.gpu_hours:
            return None
        return f"the {self.whose}'s {self.gpu_hours:g} GPU hours (--gpu-hours) are used up"

    def _hours(self) -> float:
        return (time.monotonic() - self._began) / 3600
