"""A trial's run directory, as far as a diagnosis needs it: what was planned, how it ended."""

from pathlib import Path
from typing import Any

from pipeline.diagnose.curve import Facts
from pipeline.errors import InputError
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec


def is_trial(folder: Path) -> bool:
    """Tell whether a folder is a trial's run directory."""
    run = RunDir(folder)
    return run.spec.is_file() or run.measurements.is_file()


def find_trial(runs: Path, sweep: str, trial: str) -> Path:
    """Return the run directory of a trial named VARIANT/NUMBER.

    Raises:
        InputError: the name is no such name, or there is no such trial.
    """
    variant, slash, number = trial.rpartition("/")
    if not (slash and variant and number.isascii() and number.isdigit()):
        raise InputError(
            f'A trial is named VARIANT/NUMBER, for example baseline/0; "{trial}" is not.'
        )
    folder = runs / sweep / variant / number
    if not is_trial(folder):
        raise InputError(
            f"There is no trial {trial} of {sweep} ({folder} has no spec.json). "
            f"See: pcan sweep status {sweep}"
        )
    return folder


def trial_facts(folder: Path) -> Facts:
    """Return what the run directory says beyond its measurements."""
    spec = RunDir(folder).read_spec() or TrialSpec()
    outcome = read_json(RunDir(folder).outcome) or {}
    warm = spec.warm_start or {}
    return Facts(
        max_epochs=_whole(spec.epochs),
        load_from=warm.get("checkpoint") if isinstance(warm.get("checkpoint"), str) else None,
        start_top1=_number(warm.get("expect")),
        save_best=spec.metric,
        stop_cause=_cause(outcome) if outcome.get("state") != "FAIL" else None,
        failure=_cause(outcome) if outcome.get("state") == "FAIL" else None,
        val_clips=_clips(RunDir(folder)),
    )


def known_clips(runs: Path, sweep: str) -> int | None:
    """Return the size of the validation set that an earlier trial of a sweep noted."""
    found = (_clips(RunDir(path.parent)) for path in sorted((runs / sweep).glob("*/*/facts.json")))
    return next((clips for clips in found if clips is not None), None)


def _clips(run: RunDir) -> int | None:
    return _whole((read_json(run.facts) or {}).get("val_clips"))


def _cause(outcome: dict[str, Any]) -> str | None:
    cause, reason = outcome.get("cause"), outcome.get("reason")
    if not isinstance(cause, str):
        return None
    return f"{cause}: {reason}" if isinstance(reason, str) and reason else cause


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _number(value: Any) -> float | None:
    return (
        float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    )
