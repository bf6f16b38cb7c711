"""The types of values in a sweep file: what each refuses, and the base of all its models."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)

from pipeline.shared.states import Cause

#: Study names, folders and W&B ids are made of these names.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
#: `floor: best_known` and `below: best_known` mean the objective's `best_known`.
BEST_KNOWN = "best_known"
#: SLURM's time limits: minutes[:seconds], hours:minutes:seconds, days-hours[:minutes[:seconds]].
DURATION = re.compile(r"^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$")
#: Causes after which the same job may be tried again; the sweep file says how often.
RETRIED = (Cause.LOST_WORKER, Cause.PORT, Cause.STALL)
#: Ends of a trial that no rule of the ladder can follow: a search's, a person's, the machine's.
_NOT_IN_LADDER = {
    *(Cause.HALVING, Cause.LADDER, Cause.PAUSED),
    *(Cause.INTERRUPTED, Cause.BUDGET, Cause.TIMEOUT, Cause.SUPERSEDED),
    *(Cause.DISK_FULL, Cause.NO_GPU, Cause.MACHINE_LIMIT, Cause.LOST_CHECKPOINT),
    *(Cause.CHECKPOINT_REFUSED, Cause.MACHINE_FAULT),
}
#: Causes with which a trial can end, as a ladder may ask for them.
CAUSES = tuple(cause for cause in Cause if cause not in _NOT_IN_LADDER)
#: Options of a job script that pcan sets for every job.
_RESERVED = re.compile(
    r"#SBATCH\s+(--(?:nodes|ntasks|gres|gpus|array|output|error|open-mode|requeue|no-requeue|"
    r"signal|job-name|chdir|export|input|wrap|partition|account|time)(?:-\w+)*|-[NnaoeJDitpAG])\b"
)


class Strict(BaseModel):
    """A frozen model: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def finite(value: float) -> float:
    """Return the value; refuse NaN and infinity."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def _fraction(value: float) -> float:
    if 1 < value <= 100:
        raise ValueError(
            f"{value:g} is above 1, and accuracies here are fractions; write {value / 100:g}"
        )
    if not 0 <= value <= 1:
        raise ValueError(f"{value:g} is not a fraction between 0 and 1")
    return value


def _level(value: Any, info: ValidationInfo) -> Any:
    """Put the objective's best known accuracy, which the reader hands in, in place of its name."""
    if value != BEST_KNOWN:
        return value
    known = (info.context or {}).get(BEST_KNOWN)
    if known is None:
        raise ValueError(
            f"{info.field_name} is {BEST_KNOWN}, but objective.{BEST_KNOWN} is not given"
        )
    return known


def _duration(value: str) -> str:
    if not DURATION.match(value):
        raise ValueError(
            f'"{value}" is not a time limit of SLURM; write hours:minutes:seconds or '
            "days-hours, such as 12:00:00 or 2-00"
        )
    return value


def _job_line(value: str) -> str:
    """Refuse what would undo how a job is started: one task on one node, with our signals."""
    if "\n" in value:
        raise ValueError("one entry holds one line; make it several entries")
    reserved = _RESERVED.match(value.strip())
    if reserved:
        raise ValueError(f"{reserved.group(1)} is set by pcan for every job; leave it out")
    return value


def _digest(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(
            f'"{value}" is not a SHA-256 digest (64 of 0-9, a-f); run: sha256sum FILE'
        )
    return value


def _cause(value: str) -> str:
    if value not in CAUSES:
        raise ValueError(f'no trial ends with "{value}"; the causes are: {", ".join(CAUSES)}')
    return value


def _retried(value: Mapping[str, int]) -> Mapping[str, int]:
    for cause in value:
        if cause not in RETRIED:
            known = ", ".join(RETRIED)
            raise ValueError(f'"{cause}" is not retried; these may be: {known}')
    return value


def _pair(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) != 2:
        raise ValueError(f"write two values, the lower and the upper, not {len(value)}")
    return value


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


T = TypeVar("T")

Fraction = Annotated[float, AfterValidator(_fraction)]
#: A fraction, or "best_known" for the objective's.
Level = Annotated[float, BeforeValidator(_level), AfterValidator(_fraction)]
Positive = Annotated[float, AfterValidator(finite), Field(gt=0)]
#: Strictly between 0 and 1.
Share = Annotated[float, AfterValidator(finite), Field(gt=0, lt=1)]
Epoch = Annotated[int, Field(ge=1, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Scalar: TypeAlias = bool | int | float | str
Duration = Annotated[str, AfterValidator(_duration)]
JobLine = Annotated[str, AfterValidator(_job_line)]
Digest = Annotated[str, AfterValidator(_digest)]
LadderCause = Annotated[str, AfterValidator(_cause)]
Retries = Annotated[
    Mapping[str, Annotated[int, Field(ge=0, le=100)]],
    AfterValidator(_retried),
]
#: Lists of a file are tuples here, so that a frozen model cannot be changed through them.
Several = Annotated[tuple[T, ...], Field(strict=False)]
Pair = Annotated[tuple[T, T], Field(strict=False), BeforeValidator(_pair)]
OneOrMore = Annotated[tuple[T, ...], Field(strict=False), BeforeValidator(_one_or_more)]
