"""The plan that a log is held against: which variant, what it expects, its true schedule."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.diagnose.rules.conform import conformance
from pipeline.diagnose.runner import Rule
from pipeline.diagnose.trial import find_trial
from pipeline.errors import InputError
from pipeline.plan.sweep import Sweep, Variant

#: Returns the true lr of a variant (or of a trial's own config) and what stood in the way.
Schedule = Callable[[], tuple[Sequence[float] | None, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanContext:
    """A plan's variant, or nothing at all."""

    sweep: Sweep | None = None
    variant: Variant | None = None
    folder: Path | None = None
    schedule: Schedule | None = None

    @property
    def start(self) -> float | None:
        """What the variant's starting weights are expected to reach."""
        if self.variant is None or self.variant.warm_start is None:
            return None
        return self.variant.warm_start.expect

    def metric(self, names: Sequence[str]) -> str | None:
        """Return the plan's metric if the log has it; otherwise the log's own is taken."""
        if self.sweep is None or self.sweep.objective.metric not in names:
            return None
        return self.sweep.objective.metric

    def rules(self) -> tuple[list[Rule], tuple[str, ...]]:
        """Return the rules of conformance, and why the lr could not be checked."""
        if self.variant is None:
            return [], ()
        true_lr, problems = self.schedule() if self.schedule else (None, ())
        return conformance(self.variant, true_lr), problems


def choose_variant(sweep: Sweep, name: str | None) -> Variant:
    """Return a variant by name, the ladder's first by default.

    Raises:
        InputError: there is no such variant.
    """
    name = name or sweep.ladder.start
    if name not in sweep.variants:
        known = ", ".join(sweep.variants)
        raise InputError(f'{sweep.shown_path} has no variant "{name}"; it has: {known}.')
    return sweep.variants[name]


def of_trial(sweep: Sweep, runs: Path, trial: str) -> tuple[Variant, Path]:
    """Return the variant and the run directory of a trial named VARIANT/NUMBER."""
    folder = find_trial(runs, sweep.name, trial)
    return choose_variant(sweep, trial.rpartition("/")[0]), folder
