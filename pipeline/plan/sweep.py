"""What a sweep file holds: its keys and their types, and the facts made of them.

The models are both. `read.py` fills them from YAML, `variants.py` resolves what one key means for
another; nothing here reads a file or decides anything. Accuracies are fractions in [0, 1], epochs
are 1-based, times are in the unit of the name.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SkipValidation, model_validator

from pipeline.plan.gates import Gate
from pipeline.plan.sweep_types import (
    Digest,
    Duration,
    Epoch,
    Fraction,
    JobLine,
    LadderCause,
    Level,
    Name,
    OneOrMore,
    Pair,
    Positive,
    Retries,
    Scalar,
    Seed,
    Several,
    Share,
    Strict,
    finite,
)


class Objective(Strict):
    """What is maximised, and the figures it is compared with."""

    metric: str
    branches: dict[Literal["rgb", "pose"], str] = {}
    goal: Fraction | None = None
    best_known: Fraction | None = None


class Speed(Strict):
    """What makes a job faster, all off (docs/speed.md); false leaves the config's own say.

    `amp` and `tf32` change the arithmetic and belong to the recipe. The others change the order
    of sums at most: they come with a start, as the kind of GPU does.
    """

    amp: Literal["bf16", "fp16"] | None = None
    channels_last: bool = False
    compile: bool = False
    tf32: bool = False
    cudnn_benchmark: bool = False

    def named(self) -> dict[str, Any]:
        """Return what the file says, also that something is off."""
        return self.model_dump(exclude_unset=True)

    def used(self) -> dict[str, Any]:
        """Return what is on."""
        return {name: value for name, value in self.model_dump().items() if value}


class JobSettings(Strict):
    """How one trial's job is run."""

    gpus: Annotated[int, Field(ge=1, le=64)] = 2
    epoch_minutes: Positive | None = None
    python: str | None = None
    code_root: str | None = None
    stop_grace_s: Positive = 120.0
    max_hours: Positive | None = None
    retry: Retries = {}
    speed: Speed = Speed()


class WarmStart(Strict):
    """The weights a variant starts from (`load_from`, never a resumed run).

    They are a file, `checkpoint`, or those of the best complete trial of another variant of the
    sweep, `best_of`. `sha256`, where it is given, is the digest the file must have.
    """

    checkpoint: str | None = None
    best_of: Name | None = None
    expect: Fraction | None = None
    tolerance: Fraction = 0.003
    on_mismatch: Literal["stop", "warn", "skip"] = "stop"
    min_matched: Fraction = 0.95
    make: Name | None = None
    sha256: Digest | None = None

    @model_validator(mode="after")
    def _names_one_source(self) -> Self:
        if (self.checkpoint is None) == (self.best_of is None):
            raise ValueError("write checkpoint, a file, or best_of, a variant of this sweep")
        if self.best_of is not None and (self.make is not None or self.sha256 is not None):
            raise ValueError("make and sha256 belong to a checkpoint; best_of has neither")
        return self

    def file(self, root: Path) -> Path | None:
        """Return the file in the project's folder `root`, None for a stage (`best_of`)."""
        return root / self.checkpoint if self.checkpoint is not None else None


class Data(Strict):
    """Where the data lies and in which form the job reads it."""

    store: Literal["video", "prepared"] = "video"
    root: str | None = None


class Patience(Strict):
    """Stop after `epochs` validations in a row below best + `min_delta`."""

    epochs: Epoch
    min_delta: Fraction


class Band(Strict):
    """The plan's expected course at one epoch: shown and checked, never a reason to stop."""

    epoch: Epoch
    top1: Pair[Fraction]
    lr: Positive | None = None


class Space(Strict):
    """The range or the choices of one searched value.

    `when` maps paths that are searched before it to the choices for which it is drawn at all.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: Positive | None = None
    choices: Annotated[Several[Scalar], Field(min_length=1)] | None = None
    when: dict[str, OneOrMore[Scalar]] = {}

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> Self:
        ranged = self.low is not None and self.high is not None
        if ranged == (self.choices is not None):
            raise ValueError("write low and high, or choices")
        if self.low is not None and self.high is not None:
            finite(self.low), finite(self.high)
            if self.low >= self.high:
                raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"a logarithmic range needs low above 0, not {self.low:g}")
            if self.log and self.step is not None:
                raise ValueError("log and step exclude each other")
        return self


class LadderRule(Strict):
    """When a trial ended like this, the first of `next` that was not tried yet follows.

    `complete` names the variant after whose complete trial it does; the others follow a stop.
    """

    next: Annotated[Several[Name], Field(min_length=1)]
    epoch: Epoch | None = None
    below: Level | None = None
    rule: Literal["no_improvement"] | None = None
    cause: LadderCause | None = None
    complete: Name | None = None

    @model_validator(mode="after")
    def _has_one_condition(self) -> Self:
        ends = (self.below, self.rule, self.cause, self.complete)
        if sum(x is not None for x in ends) != 1:
            raise ValueError("write exactly one of below, rule, cause, complete")
        if (self.epoch is None) == (self.below is not None or self.rule is not None):
            raise ValueError("below and rule need an epoch, cause and complete have none")
        return self

    def condition(self) -> str:
        """Return the condition in words, as the plan's tree shows it."""
        if self.complete is not None:
            return f"{self.complete} is complete"
        if self.cause is not None:
            return f"ended with cause {self.cause}"
        if self.rule is not None:
            return f"epoch {self.epoch}: {self.rule.replace('_', ' ')}"
        return f"epoch {self.epoch}: top-1 below {100 * (self.below or 0):.2f} %"


class Ladder(Strict):
    """Which variant is run first, and which follows which verdict."""

    start: Name
    after: Several[LadderRule] = ()

    def stage_after(self, completed: str, tried: Collection[str]) -> str | None:
        """Return the variant that follows a completed one, None if that ends the ladder."""
        rules = [rule for rule in self.after if rule.complete == completed]
        return next((name for rule in rules for name in rule.next if name not in tried), None)


class Slurm(Strict):
    """What `launch --on slurm` asks the scheduler for; None leaves it to the cluster.

    `nodes` are the only ones that may be used, `signal_s` is how long before the time limit a job
    gets its signal, `shared` says that all nodes see the project's folder, `extra` goes into the
    script.
    """

    partition: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None
    account: Annotated[str, Field(pattern=r"^[\w.@-]+$")] | None = None
    time: Duration | None = None
    nodes: Several[Annotated[str, Field(pattern=r"^[\w.-]+$")]] = ()
    cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    signal_s: Annotated[int, Field(ge=5, le=65_535)] | None = None
    shared: bool = False
    extra: Several[JobLine] = ()


def _rule_name(value: Any) -> Any:
    """Return the name that is stored for a stopping rule: `sync_halving` is `ladder`."""
    return "ladder" if value == "sync_halving" else value


class Search(Strict):
    """How `pcan sweep search` searches beyond the plan.

    Args:
        rule: the stopping rule; `sync_halving` is another name of `ladder`.
        trials: how many trials in all, where the command does not say.
        around: the variant whose space is searched; None: the best of those run so far.
        read: what the rule ranks trials by: the greater of the best value so far and the value of
            the averaged weights, or the best so far alone.
        at: the rule's checks, as shares of a trial's epochs.
        keep: the share of the trials that goes on at a check.
        finish: how many go on at least, under the ladder.
        seed: of the sampler.
        couple: whether a drawn lr moves its scheduler's rates.
    """

    rule: Annotated[Literal["halving", "ladder", "none"], BeforeValidator(_rule_name)] = "ladder"
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = None
    around: Name | None = None
    read: Literal["averaged", "best"] = "averaged"
    at: Annotated[Several[Share], Field(min_length=1)] = (1 / 8, 1 / 4, 1 / 2)
    keep: Share = 0.5
    finish: Annotated[int, Field(ge=1, le=1000)] = 3
    seed: Seed = 0
    couple: bool = True


class Notify(Strict):
    """What `--notify` reports.

    Args:
        on: the events: a verdict that is not "go", a failed trial or launch, the end of a launch,
            a new best of the sweep.
        better_by: how much better a new best has to be, a fraction.
    """

    on: Several[Literal["verdict", "failure", "end", "better"]] = ("verdict", "failure", "end")
    better_by: Fraction = 0.0


class VariantEntry(Strict):
    """A variant as the file has it: what is left out comes from elsewhere (`INHERITED`).

    `config` and `metric` are for a model of another kind: its own base config, and the name of the
    objective there.
    """

    plan: str | None = None
    config: str | None = None
    metric: str | None = None
    like: Name | None = None
    set: dict[str, Any] = {}
    space: dict[str, Space] | None = None
    gates: Several[Gate] | None = None
    bands: Several[Band] | None = None
    patience: Patience | None = None
    warm_start: WarmStart | None = None
    in_ladder: bool = True
    seed: Seed | None = None


#: What a variant takes from the one it is `like`, else from the file's top level, if it does not
#: set it itself. `null` means that for the first six, and "none" for the last two.
INHERITED = ("config", "metric", "space", "gates", "bands", "seed", "patience", "warm_start")
NULL_IS_A_VALUE = ("patience", "warm_start")


class Variant(VariantEntry):
    """A named recipe: the base config plus fixed overrides, with its own checks.

    `set` maps config paths to values and already holds what the variant inherits (`like`);
    `named` holds only the paths that it names itself.
    """

    name: str
    config: str
    named: dict[str, Any]
    space: dict[str, Space] = {}
    gates: Several[Gate] = ()
    bands: Several[Band] = ()
    seed: int = 0

    @property
    def epochs(self) -> int | None:
        """The number of epochs the variant sets, None if the base config decides."""
        value = self.set.get("train_cfg.max_epochs")
        return value if isinstance(value, int) else None

    @property
    def starts_from(self) -> str | None:
        """The variant whose best trial gives the starting weights; None if it is not a stage."""
        return self.warm_start.best_of if self.warm_start is not None else None


class SweepFile(Strict):
    """A sweep file, before variants are resolved."""

    name: Name
    config: str
    objective: Objective
    job: JobSettings = JobSettings()
    warm_start: WarmStart | None = None
    data: Data = Data()
    patience: Patience | None = None
    gates: Several[Gate] = ()
    bands: Several[Band] = ()
    variants: Annotated[Mapping[Name, VariantEntry], Field(min_length=1, max_length=200)]
    ladder: Ladder
    slurm: Slurm = Slurm()
    search: Search = Search()
    notify: Notify = Notify()


class Sweep(SweepFile):
    """A checked sweep file. Gates, bands, patience and weights that count are the variants'."""

    path: Path
    root: Path
    variants: Mapping[str, Variant]
    #: where each key stands, for messages: key path -> line (1-based)
    lines: Annotated[
        Mapping[tuple[str | int, ...], int], SkipValidation, Field(repr=False, exclude=True)
    ] = {}

    def where(self, *keys: str | int) -> str:
        """Return `file:line` of the nearest key that stands in the file."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.lines:
                return f"{self.shown_path}:{self.lines[keys[:length]]}"
        return self.shown_path

    @property
    def shown_path(self) -> str:
        """The file's path as a user would type it from the project's folder."""
        if self.path.is_relative_to(self.root):
            return str(self.path.relative_to(self.root))
        return str(self.path)

    def metric_of(self, variant: str) -> str:
        """Return the metric that a variant's trials are read by."""
        own = self.variants[variant].metric if variant in self.variants else None
        return own or self.objective.metric

    def branches_of(self, variant: str) -> dict[str, str]:
        """Return a variant's branch metrics; one with a metric of its own has none."""
        same = self.metric_of(variant) == self.objective.metric
        return {str(k): v for k, v in self.objective.branches.items()} if same else {}

    def config_of(self, variant: str) -> str:
        """Return a variant's base config."""
        return self.variants[variant].config if variant in self.variants else self.config

    @property
    def makers(self) -> tuple[str, ...]:
        """Names of the variants that make starting weights for others."""
        made = [v.warm_start.make for v in self.variants.values() if v.warm_start is not None]
        return tuple(dict.fromkeys(name for name in made if name is not None))
