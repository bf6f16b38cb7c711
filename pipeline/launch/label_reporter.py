"""The audit of running trials' labels, at their start, after each gate's epoch and at the end."""

import json
from collections.abc import Callable

from pipeline.launch.reporters import Reporter, RunningTrial
from pipeline.plan.verdict import Verdict
from pipeline.shared.files import append_line, timestamp
from pipeline.shared.measurement import Measurement

#: What to do about it, behind the numbers.
REMEDY = (
    "Look at labels and loss before anything else: pcan doctor tries whether the head's loss "
    'trains other labels than the loader gives (docs/model.md, "Labels that the loss changes").'
)


class LabelReporter(Reporter):
    """Holds a trial's predictions against other readings of the labels.

    The findings are kept in the run directory, since the predictions of most epochs are not.

    Args:
        say: prints one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[tuple[str, str, str]] = set()

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, _verdict: Verdict
    ) -> None:
        """Audit an epoch if it is the start, a gate's, or the last; report what is new."""
        epoch = measurement.epoch
        if epoch not in {0, trial.epochs, *(gate.epoch for gate in trial.rules.gates)}:
            return
        kept = trial.rundir.read_predictions(epoch)
        if kept is None:
            return
        from pipeline.plan.label_audit import audit

        found = audit(kept)
        new = [one for one in found if (trial.name, one.branch, one.reading) not in self._said]
        for one in new:
            self._said.add((trial.name, one.branch, one.reading))
            self._say(f"{trial.name} epoch {epoch}: label_mismatch: {one.sentence}.")
        if new:
            self._say(f"  {REMEDY}")
        record = {"epoch": epoch, "findings": [one.record() for one in found]}
        try:
            append_line(trial.rundir.labels, json.dumps({**record, "time": timestamp()}))
        except OSError:  # a disk that refuses it was said, and the findings are printed
            return
