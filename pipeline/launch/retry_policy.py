"""Which failed jobs are started again, and how often."""

from collections.abc import Mapping
from typing import Any

from pipeline.job.exit_cause import Outcome
from pipeline.launch.trial_runner import TrialRunner
from pipeline.shared.rundir import RunDir


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

    def started(self, attempt: TrialRunner) -> int:
        """Note a start; return which one of the trial it is, from 1."""
        self._epochs[attempt.name] = len(attempt.history)
        return attempt.lease.attempt + self._starts.get(attempt.name, 0)

    def allowed(self, attempt: TrialRunner, outcome: Outcome) -> bool:
        """Whether another start may mend what ended this one.

        A checkpoint that the job refused makes way for the one before, whatever the bounds.
        """
        if outcome.state != "FAIL" or attempt.ending is not None:
            return False
        if outcome.cause == "bad_checkpoint":
            return rejected_checkpoint(attempt.rundir, {"cause": outcome.cause}) is not None
        if len(attempt.history) > self._epochs[attempt.name]:
            self._fruitless[attempt.name] = 0
        return self._fruitless.get(attempt.name, 0) < self.bounds.get(outcome.cause or "", 0)

    def next_start(self, attempt: TrialRunner) -> int:
        """Count another start; return its number."""
        name = attempt.name
        self._fruitless[name] = self._fruitless.get(name, 0) + 1
        self._starts[name] = self._starts.get(name, 0) + 1
        return attempt.lease.attempt + self._starts[name]


def rejected_checkpoint(rundir: RunDir, earlier: Mapping[str, Any] | None) -> str | None:
    """Return the checkpoint that the last start refused, if that is how it ended.

    Its launcher was killed before it could try the one before.
    """
    if earlier is None or earlier.get("cause") != "bad_checkpoint":
        return None
    spec = rundir.read_spec()
    return spec.resume if spec else None
