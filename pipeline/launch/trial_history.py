"""The measured epochs of one trial, the rules it is judged by, and what they said."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from pipeline.launch.context import CurrentContext, LaunchContext
from pipeline.launch.control_files import ControlFiles, overruled
from pipeline.launch.reporters import Reporter
from pipeline.launch.search import rung_rules_for
from pipeline.launch.trial_lease import TrialLease
from pipeline.plan.judge import Rules, judge
from pipeline.plan.ladder import VariantOutcome, next_variant
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.shared.files import read_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir


def rules_for(context: LaunchContext, lease: TrialLease, rundir: RunDir) -> Rules:
    """Return what a trial is judged by; the job says how many clips it validates on."""
    before, present = rundir.read_spec(), context.resolution.hashes.get(lease.variant)
    same = before is None or before.config_hash in (None, present)
    course = context.courses.get(lease.variant) if same and not lease.searched else None
    clips = (read_json(rundir.facts) or {}).get("val_clips")
    rules = Rules.of(context.sweep.variants[lease.variant], true_lr=course, clips=clips)
    if lease.facts.get("confirms"):
        rules = dataclasses.replace(rules, gates=())  # a repetition has to run to its end
    if lease.facts.get("search"):
        rules = dataclasses.replace(rules, search=rung_rules_for(context, lease, rundir))
    return dataclasses.replace(rules, overruled=overruled(rundir))


class TrialRules(Protocol):
    """What one trial is judged by; asked at each verdict, since it may change meanwhile."""

    def rules(self) -> Rules: ...

    def next_variant(self, verdict: Verdict) -> str | None:
        """Return the variant that the ladder starts after this verdict."""


class LaunchedTrialRules:
    """The rules of a trial by the plan as it is now, and by what its job has said.

    Args:
        tried: variants that the ladder does not start again; None for a trial that it does not
            follow, such as one of a search.
    """

    def __init__(
        self,
        current: CurrentContext,
        lease: TrialLease,
        rundir: RunDir,
        tried: Sequence[str] | None,
    ) -> None:
        self._current = current
        self._lease = lease
        self._rundir = rundir
        self._tried = tried

    def rules(self) -> Rules:
        return rules_for(self._current.value, self._lease, self._rundir)

    def next_variant(self, verdict: Verdict) -> str | None:
        if self._tried is None:
            return None
        ended = VariantOutcome.of(verdict)
        return next_variant(self._current.value.sweep, ended, self._tried)


class TrialHistory:
    """A trial's measurements, judged epoch by epoch.

    Verdicts carry the variant that the ladder starts after them (`next`).
    """

    def __init__(
        self,
        rundir: RunDir,
        files: ControlFiles,
        rules: TrialRules,
        name: str,
        reporter: Reporter,
    ) -> None:
        self.measurements: list[Measurement] = []
        #: Records of the verdicts by which a rule acted, up to the one that ends the trial.
        self.verdicts: list[dict[str, Any]] = []
        #: The first verdict that ends the trial, None while it goes on.
        self.ending: Verdict | None = None
        self._rundir = rundir
        self._files = files
        self._rules = rules
        self._size = -1
        self._read_earlier(name, reporter)

    @property
    def rules(self) -> Rules:
        """What the trial is judged by, as far as it is known by now."""
        return self._rules.rules()

    @property
    def last_epoch(self) -> int:
        return self.measurements[-1].epoch if self.measurements else 0

    def read_new(self) -> list[Measurement]:
        """Return the epochs that the job has measured since the last call."""
        try:
            size = self._rundir.measurements.stat().st_size
        except OSError:  # not there yet, or the disk is away for a moment
            return []
        if size == self._size:
            return []
        self._size = size
        known = {m.epoch for m in self.measurements}
        return [m for m in self._rundir.read_measurements() if m.epoch not in known]

    def add(self, measurement: Measurement) -> Verdict:
        """Judge one more epoch and record its verdict."""
        self.measurements = sorted([*self.measurements, measurement], key=lambda m: m.epoch)
        verdict = self._judge(len(self.measurements))
        self._files.add_verdict(verdict.record())
        return verdict

    def rejudge(self) -> None:
        """Judge all epochs again by rules that have changed."""
        self.verdicts, self.ending = [], None
        for count in range(1, len(self.measurements) + 1):
            self._judge(count)

    def _read_earlier(self, name: str, reporter: Reporter) -> None:
        """Judge what earlier attempts measured, by the rules as they are now.

        The verdict of an epoch that was measured while no launcher lived is recorded here.
        """
        recorded = self._files.read_verdicts()
        for measurement in self._rundir.read_measurements():
            self.measurements.append(measurement)
            verdict = self._judge(len(self.measurements))
            kind = recorded.get(measurement.epoch)
            resumed = kind == VerdictKind.PAUSE and verdict.kind is VerdictKind.GO
            if measurement.epoch not in recorded or resumed:
                self._files.add_verdict(verdict.record())
            if resumed:
                reporter.on_message(f"{name} goes on: {verdict.reason}.")

    def _judge(self, count: int) -> Verdict:
        """Judge the first `count` epochs; the first verdict that ends the trial stands."""
        verdict = judge(self.measurements[:count], self.rules)
        if verdict.kind is VerdictKind.PRUNE:
            verdict = dataclasses.replace(verdict, next=self._rules.next_variant(verdict))
        if self.ending is None:
            if verdict.rule is not None:
                self.verdicts.append(verdict.record())
            if verdict.stops:
                self.ending = verdict
        return verdict
