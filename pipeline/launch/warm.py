"""What a warm start loaded, told while the job does it: hours later it would be too late."""

from collections.abc import Callable

from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir


class WarmStartNotice:
    """Tells once what the job found in the starting weights.

    Args:
        name: the trial, for the lines.
        say: prints one line.
    """

    def __init__(self, rundir: RunDir, name: str, say: Callable[[str], None]) -> None:
        self._rundir = rundir
        self._name = name
        self._say = say
        self._due = True

    def check(self, trained: bool) -> None:
        """Tell the report if it has come; one of a trial that has epochs was told before."""
        if not self._due:
            return
        report = (read_json(self._rundir.facts) or {}).get("warm_start")
        if report is not None and not trained:
            for note in report.get("notes") or ():
                self._say(f"{self._name}: {note}")
        self._due = report is None and not trained
