"""What a sweep file says, as plain facts: the types that everything else works with.

`read.py` makes them from YAML and checks them; nothing here reads a file or decides anything.
Accuracies are fractions in [0, 1], epochs are 1-based, times are in the unit of the name.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: `gates: [{floor: best_known}]` means the objective's `best_known`.
BEST_KNOWN = "best_known"
#: Causes after which the same job may be tried again; the sweep file says how often.
RETRIED = ("lost_worker", "port", "stall")
#: Causes with which a trial can end, as a ladder may ask for them.
CAUSES = (
    *("gate", "patience", "nan", "start_mismatch", "no_metric", "warm_start"),
    *("oom_cuda", "oom_host", "code_error", "bad_config", "bad_data", "bad_checkpoint"),
    *RETRIED,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What is maximised, and the figures it is compared with."""

    metric: str
    branches: Mapping[str, str]
    goal: float | None = None
    best_known: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How one trial's job is run."""

    gpus: int = 2
    epoch_minutes: float | None = None
    python: str | None = None
    code_root: str | None = None
    stop_grace_s: float = 120.0
    max_hours: float | None = None
    retry: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmStart:
    """The weights a variant starts from (`load_from`, never a resumed run).

    `sha256`, where it is given, is the digest the file must have.
    """

    checkpoint: str
    expect: float | None = None
    tolerance: float = 0.003
    on_mismatch: str = "stop"
    min_matched: float = 0.95
    make: str | None = None
    sha256: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the data lies and in which form the job reads it."""

    store: str = "video"
    root: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """Stop after `epochs` validations in a row below best + `min_delta`."""

    epochs: int
    min_delta: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """A check at one epoch: under `floor` prune, under `target` watch.

    `improve_on_epoch` also prunes if no epoch since then was better by `min_delta`.
    `floor_is_best_known` words the reason, and makes equality worth watching.
    """

    epoch: int
    floor: float | None = None
    target: float | None = None
    improve_on_epoch: int | None = None
    min_delta: float = 0.0
    floor_is_best_known: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
    """The plan's expected course at one epoch: shown and checked, never a reason to stop."""

    epoch: int
    top1: tuple[float, float]
    lr: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The range or the choices of one searched value.

    `when` maps paths that are searched before it to the choices for which it is drawn at all.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] | None = None
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A named recipe: the base config plus fixed overrides, with its own checks.

    `set` maps config paths to values and already holds what the variant inherits (`like`);
    `named` holds only the paths that it names itself.
    """

    name: str
    plan: str | None
    like: str | None
    set: Mapping[str, Any]
    named: Mapping[str, Any]
    space: Mapping[str, Space]
    gates: tuple[Gate, ...]
    bands: tuple[Band, ...]
    patience: Patience | None
    warm_start: WarmStart | None
    in_ladder: bool = True
    seed: int = 0

    @property
    def epochs(self) -> int | None:
        """Return the number of epochs the variant sets, None if the base config decides."""
        value = self.set.get("train_cfg.max_epochs")
        return value if isinstance(value, int) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LadderRule:
    """When a trial ended like this, the first of `next` that was not tried yet follows."""

    next: tuple[str, ...]
    epoch: int | None = None
    below: float | None = None
    rule: str | None = None
    cause: str | None = None

    def condition(self) -> str:
        """Return the condition in words, as the plan's tree shows it."""
        if self.cause is not None:
            return f"ended with cause {self.cause}"
        if self.rule is not None:
            return f"epoch {self.epoch}: {self.rule.replace('_', ' ')}"
        return f"epoch {self.epoch}: top-1 below {100 * (self.below or 0):.2f} %"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ladder:
    """Which variant is run first, and which follows which verdict."""

    start: str
    after: tuple[LadderRule, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm:
    """What `launch --on slurm` asks the scheduler for; None leaves it to the cluster.

    `nodes` are the only ones that may be used, `signal_s` is how long before the time limit a job
    is told, `shared` says that all nodes see the project's folder, `extra` goes into the script.
    """

    partition: str | None = None
    account: str | None = None
    time: str | None = None
    nodes: tuple[str, ...] = ()
    cpus: int | None = None
    signal_s: int | None = None
    shared: bool = False
    extra: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How `pcan sweep search` searches beyond the plan.

    Args:
        rule: "halving", "ladder" or "none".
        trials: how many trials in all, where the command does not say.
        around: the variant whose space is searched; None: the best of those run so far.
        at: the rule's checks, as shares of a trial's epochs.
        keep: the share of the trials that goes on at a check.
        finish: how many go on at least, under the ladder.
        seed: of the sampler.
        couple: whether a drawn lr moves its scheduler's rates.
    """

    rule: str = "halving"
    trials: int | None = None
    around: str | None = None
    at: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2)
    keep: float = 0.5
    finish: int = 3
    seed: int = 0
    couple: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """A checked sweep file."""

    path: Path
    root: Path
    name: str
    config: str
    objective: Objective
    job: JobSettings
    data: Data
    variants: Mapping[str, Variant]
    ladder: Ladder
    slurm: Slurm = Slurm()
    search: Search = dataclasses.field(default_factory=Search)
    #: where each key stands, for messages: key path -> line (1-based)
    lines: Mapping[tuple[str | int, ...], int] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

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

    @property
    def makers(self) -> tuple[str, ...]:
        """Names of the variants that make starting weights for others."""
        made = [v.warm_start.make for v in self.variants.values() if v.warm_start is not None]
        return tuple(dict.fromkeys(name for name in made if name is not None))
