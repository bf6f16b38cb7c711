"""The measured epochs of one trial and what the rules say to them."""

from collections.abc import Callable
from typing import Any

from pipeline.launch.control_files import ControlFiles
from pipeline.plan.judge import Rules, judge
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir


class TrialHistory:
    """A trial's history, judged epoch by epoch.

    Args:
        rules: asked for anew at each verdict, since some facts come from the running job.
        next_of: names the variant that the ladder starts after a verdict that stops.
        say: prints one line for the user.
    """

    def __init__(
        self,
        rundir: RunDir,
        notes: ControlFiles,
        rules: Callable[[], Rules],
        next_of: Callable[[Verdict], str | None],
        name: str,
        say: Callable[[str], None],
    ) -> None:
        self.history: list[Measurement] = []
        #: Those that had something to say, as records; `ending` is the first that ends the trial.
        self.verdicts: list[dict[str, Any]] = []
        self.ending: Verdict | None = None
        self._rundir = rundir
        self._notes = notes
        self._rules = rules
        self._next_of = next_of
        self._size = -1
        self._read_earlier(name, say)

    @property
    def rules(self) -> Rules:
        """What the trial is judged by, as far as it is known by now."""
        return self._rules()

    @property
    def last_epoch(self) -> int:
        return self.history[-1].epoch if self.history else 0

    def read_new(self) -> list[Measurement]:
        """Return the epochs that the job has measured since the last look."""
        try:
            size = self._rundir.measurements.stat().st_size
        except OSError:  # not there yet, or the disk is away for a moment
            return []
        if size == self._size:
            return []
        self._size = size
        known = {m.epoch for m in self.history}
        return [m for m in self._rundir.read_measurements() if m.epoch not in known]

    def add(self, measurement: Measurement) -> Verdict:
        """Judge one more epoch and write its verdict down."""
        self.history = sorted([*self.history, measurement], key=lambda m: m.epoch)
        verdict = judge(self.history, self.rules)
        self._note(verdict)
        self._record(verdict)
        return verdict

    def rejudge(self) -> None:
        """Judge all epochs by rules that have changed."""
        self.verdicts, self.ending = [], None
        for count in range(1, len(self.history) + 1):
            self._note(judge(self.history[:count], self.rules))

    def record_of(self, verdict: Verdict) -> dict[str, Any]:
        """Return a verdict with the variant that it calls for."""
        follower = self._next_of(verdict) if verdict.kind is VerdictKind.PRUNE else None
        return {**verdict.record(), "next": follower}

    def _read_earlier(self, name: str, say: Callable[[str], None]) -> None:
        """Take up what earlier attempts measured; verdicts are judged anew, by today's rules.

        An epoch that was measured while no launcher lived gets its line here.
        """
        told = self._notes.judged()
        for measurement in self._rundir.read_measurements():
            self.history.append(measurement)
            verdict = judge(self.history, self.rules)
            self._note(verdict)
            if measurement.epoch not in told:
                self._record(verdict)
            elif (
                told[measurement.epoch] == VerdictKind.PAUSE.value
                and verdict.kind is VerdictKind.GO
            ):
                self._record(verdict)
                say(f"{name} goes on: {verdict.reason}.")

    def _record(self, verdict: Verdict) -> None:
        self._notes.verdict(self.record_of(verdict))

    def _note(self, verdict: Verdict) -> None:
        """Keep a verdict that had something to say; the first that ends the trial stands."""
        if verdict.rule is not None and self.ending is None:
            self.verdicts.append(self.record_of(verdict))
        if verdict.stops and self.ending is None:
            self.ending = verdict
