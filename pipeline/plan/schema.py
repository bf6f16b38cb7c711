"""The keys and types of a sweep file, before names are resolved.

Pydantic models only: which keys exist, of which type, in which range. What one key means for
another is checked in `read.py`, with the line at hand.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pipeline.plan.sweep import CAUSES, RETRIED

#: Study names, folders and W&B ids are made of these names.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def _fraction(value: float) -> float:
    if 1 < value <= 100:
        raise ValueError(
            f"{value:g} is above 1, and accuracies here are fractions; write {value / 100:g}"
        )
    if not 0 <= value <= 1:
        raise ValueError(f"{value:g} is not a fraction between 0 and 1")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def _duration(value: str) -> str:
    if not DURATION.match(value):
        raise ValueError(
            f'"{value}" is no time limit of SLURM; write hours:minutes:seconds or '
            "days-hours, such as 12:00:00 or 2-00"
        )
    return value


def _job_line(value: str) -> str:
    """Refuse what would undo how a job is started: one task on one node, with our signals."""
    if "\n" in value:
        raise ValueError("one entry holds one line; make it several entries")
    ours = _OURS.match(value.strip())
    if ours:
        raise ValueError(f"{ours.group(1)} is set by pcan for every job; leave it out")
    return value


#: SLURM's time limits: minutes[:seconds], hours:minutes:seconds, days-hours[:minutes[:seconds]].
DURATION = re.compile(r"^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})$")
_OURS = re.compile(
    r"#SBATCH\s+(--(?:nodes|ntasks|gres|gpus|array|output|error|open-mode|requeue|no-requeue|"
    r"signal|job-name|chdir|export|input|wrap|partition|account|time)(?:-\w+)*|-[NnaoeJDitpAG])\b"
)


def _retried(value: dict[str, int]) -> dict[str, int]:
    for cause in value:
        if cause not in RETRIED:
            known = ", ".join(RETRIED)
            raise ValueError(f'"{cause}" is not retried; these may be: {known}')
    return value


def _digest(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f'"{value}" is no SHA-256 digest (64 of 0-9, a-f); run: sha256sum FILE')
    return value


def _cause(value: str) -> str:
    if value not in CAUSES:
        raise ValueError(f'no trial ends with "{value}"; the causes are: {", ".join(CAUSES)}')
    return value


Fraction = Annotated[float, AfterValidator(_fraction)]
Positive = Annotated[float, AfterValidator(_finite), Field(gt=0)]
NotNegative = Annotated[float, AfterValidator(_finite), Field(ge=0)]
Epoch = Annotated[int, Field(ge=1, le=100_000)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ObjectiveModel(Strict):
    metric: str
    branches: dict[Literal["rgb", "pose"], str] = {}
    goal: Fraction | None = None
    best_known: Fraction | None = None


class JobModel(Strict):
    gpus: Annotated[int, Field(ge=1, le=64)] = 2
    epoch_minutes: Positive | None = None
    python: str | None = None
    code_root: str | None = None
    stop_grace_s: Positive = 120.0
    max_hours: Positive | None = None
    retry: Annotated[dict[str, Annotated[int, Field(ge=0, le=100)]], AfterValidator(_retried)] = {}


class WarmStartModel(Strict):
    checkpoint: str
    expect: Fraction | None = None
    tolerance: Fraction = 0.003
    on_mismatch: Literal["stop", "warn", "skip"] = "stop"
    min_matched: Fraction = 0.95
    make: Name | None = None
    sha256: Annotated[str, AfterValidator(_digest)] | None = None


class DataModel(Strict):
    store: Literal["video", "prepared"] = "video"
    root: str | None = None


class PatienceModel(Strict):
    epochs: Epoch
    min_delta: Fraction


class GateModel(Strict):
    epoch: Epoch
    floor: Fraction | Literal["best_known"] | None = None
    target: Fraction | None = None
    improve_on_epoch: Epoch | None = None
    min_delta: Fraction = 0.0

    @model_validator(mode="after")
    def _checks_something(self) -> "GateModel":
        if self.floor is None and self.target is None and self.improve_on_epoch is None:
            raise ValueError("a gate needs a floor, a target or improve_on_epoch")
        if self.improve_on_epoch is not None and self.improve_on_epoch >= self.epoch:
            raise ValueError(
                f"improve_on_epoch {self.improve_on_epoch} is not before the gate's own "
                f"epoch {self.epoch}"
            )
        return self


class BandModel(Strict):
    epoch: Epoch
    top1: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    lr: Positive | None = None


class SpaceModel(Strict):
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: Positive | None = None
    choices: Annotated[list[bool | int | float | str], Field(min_length=1)] | None = None
    when: dict[str, bool | int | float | str | list[bool | int | float | str]] = {}

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> "SpaceModel":
        ranged = self.low is not None and self.high is not None
        if ranged == (self.choices is not None):
            raise ValueError("write low and high, or choices")
        if self.low is not None and self.high is not None:
            _finite(self.low), _finite(self.high)
            if self.low >= self.high:
                raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"a logarithmic range needs low above 0, not {self.low:g}")
            if self.log and self.step is not None:
                raise ValueError("log and step exclude each other")
        return self


class VariantModel(Strict):
    plan: str | None = None
    like: Name | None = None
    set: dict[str, Any] = {}
    space: dict[str, SpaceModel] | None = None
    gates: list[GateModel] | None = None
    bands: list[BandModel] | None = None
    patience: PatienceModel | None = None
    warm_start: WarmStartModel | None = None
    in_ladder: bool = True
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None


class LadderRuleModel(Strict):
    next: Annotated[list[Name], Field(min_length=1)]
    epoch: Epoch | None = None
    below: Fraction | Literal["best_known"] | None = None
    rule: Literal["no_improvement"] | None = None
    cause: Annotated[str, AfterValidator(_cause)] | None = None

    @model_validator(mode="after")
    def _has_one_condition(self) -> "LadderRuleModel":
        if sum(x is not None for x in (self.below, self.rule, self.cause)) != 1:
            raise ValueError("write exactly one of below, rule, cause")
        if (self.epoch is None) == (self.cause is None):
            raise ValueError("below and rule need an epoch, cause has none")
        return self


class LadderModel(Strict):
    start: Name
    after: list[LadderRuleModel] = []


class SlurmModel(Strict):
    partition: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None
    account: Annotated[str, Field(pattern=r"^[\w.@-]+$")] | None = None
    time: Annotated[str, AfterValidator(_duration)] | None = None
    nodes: list[Annotated[str, Field(pattern=r"^[\w.-]+$")]] = []
    cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    signal_s: Annotated[int, Field(ge=5, le=65_535)] | None = None
    shared: bool = False
    extra: list[Annotated[str, AfterValidator(_job_line)]] = []


class SearchModel(Strict):
    rule: Literal["halving", "ladder", "none"] = "halving"
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = None
    around: Name | None = None
    at: Annotated[
        list[Annotated[float, AfterValidator(_finite), Field(gt=0, lt=1)]], Field(min_length=1)
    ] = [1 / 8, 1 / 4, 1 / 2]
    keep: Annotated[float, AfterValidator(_finite), Field(gt=0, lt=1)] = 0.5
    finish: Annotated[int, Field(ge=1, le=1000)] = 3
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    couple: bool = True


class SweepModel(Strict):
    name: Name
    config: str
    objective: ObjectiveModel
    job: JobModel = JobModel()
    warm_start: WarmStartModel | None = None
    data: DataModel = DataModel()
    patience: PatienceModel | None = None
    gates: list[GateModel] = []
    bands: list[BandModel] = []
    variants: Annotated[dict[Name, VariantModel], Field(min_length=1, max_length=200)]
    ladder: LadderModel
    slurm: SlurmModel = SlurmModel()
    search: SearchModel = SearchModel()
