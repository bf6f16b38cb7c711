"""Which failed jobs are started again, and how often."""

from collections.abc import Mapping
from typing import Any

from pipeline.job.exit_cause import Outcome
from pipeline.launch.trial_runner import TrialRunner
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause, State


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


def rejected_checkpoint(rundir: RunDir, earlier: Mapping[str, Any] | None) -> str | None:
    """Return the checkpoint that the last start rejected, if that is how it ended.

    Args:
        earlier: the content of its `outcome.json`; after a restart of the launcher the one that
            was killed before it could try an older checkpoint.
    """
    if earlier is None or earlier.get("cause") != Cause.BAD_CHECKPOINT:
        return None
    spec = rundir.read_spec()
    return spec.resume if spec else None
