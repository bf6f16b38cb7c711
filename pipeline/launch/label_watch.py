"""The audit of a running trial's labels, at its start and after each gate's epoch."""

import datetime
import json
from collections.abc import Callable

from pipeline.plan.judge import Rules
from pipeline.shared.files import append_line
from pipeline.shared.rundir import RunDir

#: What to do about it, behind the numbers.
REMEDY = (
    "Look at labels and loss before anything else: pcan doctor tries whether the head's loss "
    'trains other labels than the loader gives (docs/model.md, "Labels that the loss changes").'
)


class LabelWatch:
    """Holds a trial's predictions against other readings of the labels.

    The findings are kept in the run directory, since the predictions of most epochs are not.

    Args:
        say: prints one line.
    """

    def __init__(self, rundir: RunDir, name: str, say: Callable[[str], None]) -> None:
        self._rundir = rundir
        self._name = name
        self._say = say
        self._said: set[tuple[str, str]] = set()

    def look(self, epoch: int, rules: Rules, epochs: int) -> None:
        """Audit an epoch if it is the start, a gate's, or the last; report what is new."""
        if epoch not in {0, epochs, *(gate.epoch for gate in rules.gates)}:
            return
        kept = self._rundir.read_predictions(epoch)
        if kept is None:
            return
        from pipeline.plan.label_audit import audit

        found = audit(kept)
        new = [one for one in found if (one.branch, one.reading) not in self._said]
        for one in new:
            self._said.add((one.branch, one.reading))
            self._say(f"{self._name} epoch {epoch}: label_mismatch: {one.sentence}.")
        if new:
            self._say(f"  {REMEDY}")
        record = {"epoch": epoch, "findings": [one.record() for one in found], "time": _now()}
        try:
            append_line(self._rundir.labels, json.dumps(record))
        except OSError:  # a disk that refuses it ends no training, and it was said
            return


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
