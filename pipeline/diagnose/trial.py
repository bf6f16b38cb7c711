"""What a diagnosis reads from a trial's run directory: the plan, and how the trial ended."""

from pathlib import Path
from typing import Any

from pipeline.diagnose.curve import Facts
from pipeline.diagnose.fields import number, whole
from pipeline.plan.project import no_such_trial
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir, run_directories
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import State


def is_trial(folder: Path) -> bool:
    """Whether a folder is a trial's run directory."""
    run = RunDir(folder)
    return run.spec.is_file() or run.measurements.is_file()


def find_trial(runs: Path, sweep: str, trial: str) -> Path:
    """Return the run directory of a trial named VARIANT/NUMBER.

    Raises:
        InputError: the name has another form, or there is no such trial.
    """
    variant, _, number = trial.rpartition("/")
    folder = runs / sweep / variant / number
    if not (variant and number.isascii() and number.isdigit() and is_trial(folder)):
        known = ["/".join(one.parts[-2:]) for one in run_directories(runs / sweep)]
        raise no_such_trial(sweep, trial, known, runs)
    return folder


def trial_facts(folder: Path) -> Facts:
    """Return the facts in a run directory beside its measurements."""
    spec = RunDir(folder).read_spec() or TrialSpec()
    outcome = read_json(RunDir(folder).outcome) or {}
    warm = spec.warm_start or {}
    return Facts(
        max_epochs=whole(spec.epochs),
        load_from=warm.get("checkpoint") if isinstance(warm.get("checkpoint"), str) else None,
        start_top1=number(warm.get("expect")),
        save_best=spec.metric,
        stop_cause=_cause(outcome) if outcome.get("state") != State.FAIL else None,
        failure=_cause(outcome) if outcome.get("state") == State.FAIL else None,
        val_clips=_clips(RunDir(folder)),
    )


def known_clips(runs: Path, sweep: str) -> int | None:
    """Return the size of the validation set that an earlier trial of a sweep recorded."""
    sizes = (_clips(RunDir(path.parent)) for path in sorted((runs / sweep).glob("*/*/facts.json")))
    return next((clips for clips in sizes if clips is not None), None)


def _clips(run: RunDir) -> int | None:
    return whole((read_json(run.facts) or {}).get("val_clips"))


def _cause(outcome: dict[str, Any]) -> str | None:
    cause, reason = outcome.get("cause"), outcome.get("reason")
    if not isinstance(cause, str):
        return None
    return f"{cause}: {reason}" if isinstance(reason, str) and reason else cause
