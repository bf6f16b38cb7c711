"""From a base config and overrides to the full config of a trial, by a child process.

Answers are kept (`pipeline/job/answers.py`), so that a second launch starts no child.
"""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, NotReady, SweepFileError
from pipeline.job.answers import AnswerCache
from pipeline.job.torch_tools import run_tool
from pipeline.plan.project import Project, is_file
from pipeline.plan.sweep import Sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One config path that differs from the base config."""

    path: str
    old: Any
    new: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """A resolved config.

    Args:
        text: the whole config as Python source, loadable by plain MMEngine.
        hash: SHA-256 of the text.
        changes: what the overrides changed on the base config.
        facts: what the plan is checked with, such as max_epochs and val_epochs.
    """

    text: str
    hash: str
    changes: tuple[Change, ...]
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolution:
    """The facts of each base config, by its path, and the resolved configs by name."""

    bases: Mapping[str, Mapping[str, Any]]
    configs: Mapping[str, ResolvedConfig]

    @property
    def hashes(self) -> dict[str, str]:
        """Digest of each variant's present recipe."""
        return {name: config.hash for name, config in self.configs.items()}


def resolve_variants(sweep: Sweep, project: Project) -> Resolution:
    """Resolve every variant's recipe.

    Raises:
        SweepFileError: an override names a path the base config lacks.
        InputError: the base config cannot be read.
    """
    sets = {name: dict(variant.set) for name, variant in sweep.variants.items()}
    return resolve(sweep, project, sets, speed=sweep.job.speed.named())


def resolve(
    sweep: Sweep,
    project: Project,
    sets: Mapping[str, Mapping[str, Any]],
    given: Sequence[str] = (),
    speed: Mapping[str, Any] | None = None,
    variant: str | None = None,
) -> Resolution:
    """Resolve each named set of overrides with its base config; see `resolve_variants`.

    Args:
        sets: by the name of a variant or of one of its trials.
        given: paths that come from `--set`, for the message about one the config lacks.
        variant: whose sets these are, where their names do not say so.
        speed: the plan's `job.speed`, or a trial's own; what of it changes numbers goes into the
            configs.
    """
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, overrides in sets.items():
        owner = variant or (name if name in sweep.variants else name.rpartition("/")[0])
        groups.setdefault(sweep.config_of(owner), {})[name] = overrides
    bases, configs = {}, {}
    for config, group in (groups or {sweep.config: {}}).items():
        bases[config], found = _resolve_with(sweep, project, config, group, given, speed)
        configs.update(found)
    return Resolution(bases=bases, configs={name: configs[name] for name in sets})


def _resolve_with(
    sweep: Sweep,
    project: Project,
    base: str,
    sets: Mapping[str, Mapping[str, Any]],
    given: Sequence[str],
    speed: Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any], dict[str, ResolvedConfig]]:
    """Resolve one base config with each set; return its facts, and the configs by name."""
    config = _config_file(sweep, project, base)
    request = {
        "config": str(config),
        "sets": [{"name": n, "overrides": dict(o)} for n, o in sets.items()],
        "code_root": sweep.job.code_root,
        "speed": dict(speed or {}),
    }
    kept = AnswerCache(sweep, project)
    answer = kept.find("resolve_config", request)
    if answer is None:
        answer = run_tool("resolve_config", request, sweep.job, project.root)
        kept.keep("resolve_config", request, answer, answer.pop("sources"))
    for result in answer["results"]:
        _refuse_missing(sweep, base, result, given)
        if result["speed_problem"]:
            raise SweepFileError(f"{sweep.where('job', 'speed')}: {result['speed_problem']}")
    return answer["base"], {r["name"]: _config(r) for r in answer["results"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelProbe:
    """What a config would do, found without training.

    Args:
        lr: in force during epochs 1, 2, ...; None where `lr_error` says why.
        follows: kind and metric of each scheduler that waits for a metric; `lr` is then the most
            that the rate can be.
        problems: why the model cannot be built, or its parts do not fit each other.
        classes: of the model's head, None if it does not have a number of them.
        joints: of the model's pose pathway, None without one.
        notes: what of the config could not be looked at.
        near: whether the rates depend on how many iterations an epoch has, which is not known
            before a job; they are then within 1 % for epochs of thirty iterations and more.
    """

    lr: Sequence[float] | None
    lr_error: str | None
    problems: Sequence[str]
    classes: int | None
    joints: int | None
    follows: Sequence[Sequence[str]] = ()
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    near: bool = False

    @property
    def lr_follows(self) -> list[str]:
        """The metrics that the lr waits for, beside its schedule."""
        return [metric for kind, metric in self.follows if "Momentum" not in kind]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RehearsalResult:
    """What one sample of each loader met on its way through chain, model and evaluator.

    Args:
        problems: what every start of a job would end with.
        metrics: the names that a validation gives, None if they are not known.
        labels: how the head's loss changes the labels that the loader gives.
        loads: what the batches of each loader take of the machine.
        notes: what could not be rehearsed.
        memory: what a rank takes of its device (`MemoryProbe.answer`), None if not measured.
        settled: False if something could not be reached, so that another attempt may find more.
    """

    problems: Sequence[str] = ()
    metrics: Sequence[str] | None = None
    labels: Sequence[str] = ()
    loads: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    settled: bool = True
    memory: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryQuestion:
    """What a rehearsal measures the memory on.

    Args:
        device: "cuda" or "cpu".
        free: bytes that one rank may take.
        gpu: id of the GPU that is measured on, which no other process uses.
        kind: name of that GPU; measurements hold for all of its kind.
        always: also where a small batch cannot be too much.
    """

    device: str
    free: int
    gpu: str = ""
    kind: str = ""
    always: bool = False

    def record(self) -> dict[str, Any]:
        """Return what the child is asked."""
        return {"device": self.device, "free": self.free, "always": self.always}


def probe_configs(
    sweep: Sweep, project: Project, configs: Mapping[str, ResolvedConfig]
) -> dict[str, ModelProbe]:
    """Build each config's schedule and model once, all in one child process.

    Raises:
        NotReady: the child could not be run.
    """
    return rehearse_configs(sweep, project, configs, {})[0]


def rehearse_configs(
    sweep: Sweep,
    project: Project,
    configs: Mapping[str, ResolvedConfig],
    placed: Mapping[str, tuple[str, Sequence[Path]]],
    data: Mapping[str, Any] | None = None,
    wanted: Collection[str] = (),
    memory: MemoryQuestion | None = None,
) -> tuple[dict[str, ModelProbe], dict[str, RehearsalResult]]:
    """Build each config's schedule and model once, and rehearse it on its data.

    A child process that has to be started answers for all configs, so that later none has to be
    started for the others. Answers with a problem are not kept: the next launch looks again.

    Args:
        placed: by name, the config as it would run on this machine and its annotations.
        data: of a trial's specification, where samples are read from a prepared store.
        wanted: the configs whose answers are returned; empty for all.
        memory: measure also what a rank takes of this device.

    Raises:
        NotReady: the child could not be run.
    """
    known = _ProbeAnswers(sweep, project)
    speed = [sweep.job.speed.used()] if sweep.job.speed.used() else []
    for name, config in configs.items():
        known.look("results", name, config.text, sweep.job.gpus, *speed)
    for name, (text, files) in placed.items():
        read = [_stamp(file) for file in files]
        depends = text, read, sweep.job.gpus, dict(data or {})
        known.look("rehearsals", name, *depends)
        if memory is not None:
            known.look_for_memory(name, memory, *depends, *speed)
    known.ask_missing([name for name in (wanted or configs) if name in known.unanswered], data)
    names = [name for name in configs if name in (wanted or configs)]
    return (
        {name: ModelProbe(**known.answers["results", name]) for name in names},
        {
            name: RehearsalResult(
                **known.answers["rehearsals", name],
                memory=known.answers.get(("memory", name), {}).get("memory"),
            )
            for name in names
            if name in placed
        },
    )


class _ProbeAnswers:
    """What the probe has said of each config, by part ("results", "rehearsals") and name."""

    def __init__(self, sweep: Sweep, project: Project) -> None:
        self.answers: dict[tuple[str, str], dict[str, Any]] = {}
        self._sweep, self._project = sweep, project
        self._kept = AnswerCache(sweep, project)
        self._questions: dict[tuple[str, str], list[Any]] = {}
        self._memory: MemoryQuestion | None = None

    @property
    def unanswered(self) -> list[str]:
        """The configs of which a part is not known."""
        missing = (key[1] for key in self._questions if key not in self.answers)
        return list(dict.fromkeys(missing))

    def look(self, part: str, name: str, text: str, *depends: Any) -> None:
        """Find what was said of a config before."""
        self._questions[part, name] = [text, *depends]
        answer = self._kept.find(f"probe-{part}", self._questions[part, name])
        if answer is not None:
            self.answers[part, name] = answer

    def look_for_memory(self, name: str, asked: MemoryQuestion, *depends: Any) -> None:
        """Find what was measured of a config before, whoever asked for it."""
        self._memory = asked
        for always in (True, asked.always):
            if ("memory", name) not in self.answers:
                self.look("memory", name, *depends, asked.device, asked.kind, always)

    def ask_missing(self, first: Sequence[str], data: Mapping[str, Any] | None) -> None:
        """Ask one child for these configs and all others; without those if it does not survive."""
        others = [name for name in self.unanswered if name not in first]
        if not first:
            return
        try:
            self.ask([*first, *others], data)
        except NotReady:
            if not others:
                raise
            self.ask(first, data)

    def ask(self, names: Sequence[str], data: Mapping[str, Any] | None) -> None:
        """Ask a child for what is not known of these configs; keep what has no problem."""
        asked = [key for key in self._questions if key not in self.answers and key[1] in names]
        texts: dict[str, dict[str, str]] = {"results": {}, "rehearsals": {}, "memory": {}}
        for part, name in sorted(asked, key=lambda key: names.index(key[1])):
            texts[part][name] = self._questions[part, name][0]
        job = self._sweep.job
        request = {
            "configs": texts["results"],
            "rehearse": texts["rehearsals"],
            "ranks": job.gpus,
            "data": data,
            "speed": job.speed.used(),
            "measure": texts["memory"],
        }
        gpu = ""
        if self._memory is not None and texts["memory"]:
            request["memory"] = {**self._memory.record(), "ranks": job.gpus}
            gpu = self._memory.gpu
        found = run_tool("probe", request, job, self._project.root, gpu)
        for part, name in asked:
            one = self.answers[part, name] = found[part][name]
            if _may_be_kept(one):
                question = self._questions[part, name]
                self._kept.keep(f"probe-{part}", question, one, found["sources"])


def _may_be_kept(answer: Mapping[str, Any]) -> bool:
    """Whether another attempt would find the same; a problem is looked at again."""
    open_ends = answer["problems"] or answer["notes"] or answer.get("lr_error")
    return not open_ends and bool(answer.get("settled", True))


def _stamp(file: Path) -> list[Any]:
    try:
        found = file.stat()
    except OSError:
        return [str(file)]
    return [str(file), found.st_size, found.st_mtime_ns]


def reroot(text: str, old: str, new: str) -> str:
    """Replace the leading `old` of every path in a resolved config by `new`."""
    pattern = re.compile(rf"(['\"]){re.escape(old.rstrip('/'))}(?=/|\1)")
    quoted = repr(new.rstrip("/"))[1:-1]
    return pattern.sub(lambda match: match.group(1) + quoted, text)


def placed_path(text: str, path: str, root: str | None) -> str:
    """Return a path of a resolved config as `reroot` to `root` would write it."""
    old = (data_root_of(text) or "").rstrip("/")
    if root is None or not old or not path.startswith(old + "/"):
        return path
    return root.rstrip("/") + path[len(old) :]


def data_root_of(text: str) -> str | None:
    """Return the variable `data_root` of a resolved config, None without one."""
    match = re.search(r"^data_root = (['\"])(.*)\1$", text, re.M)
    return match.group(2) if match else None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _config_file(sweep: Sweep, project: Project, base: str) -> Path:
    path = Path(base)
    path = path if path.is_absolute() else project.root / path
    owner = next((n for n, v in sweep.variants.items() if v.config == base), "")
    where = sweep.where("variants", owner, "config")
    where = sweep.where("config") if base == sweep.config else where
    if path.suffix != ".py":
        raise InputError(
            f'{where}: the base config is "{base}", but must be a Python '
            "file (.py): MMEngine reads other kinds in a way that can run code unseen."
        )
    if not is_file(path):
        raise InputError(
            f'{where}: the base config "{base}" is missing. Paths are relative to '
            f"{project.root}.{_meant(path, base)}"
        )
    return path


def _meant(path: Path, given: str) -> str:
    """Return a question: the config beside a missing one whose name is like it; or nothing."""
    try:
        beside = sorted(file.name for file in path.parent.glob("*.py"))
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, beside, 1)
    return f' Did you mean "{Path(given).with_name(close[0])}"?' if close else ""


def _config(result: Mapping[str, Any]) -> ResolvedConfig:
    changes = tuple(Change(path=c["path"], old=c["old"], new=c["new"]) for c in result["changes"])
    return ResolvedConfig(
        text=result["config"],
        hash=digest(result["config"]),
        changes=changes,
        facts=result["facts"],
    )


def _refuse_missing(
    sweep: Sweep, base: str, result: Mapping[str, Any], given: Sequence[str]
) -> None:
    missing = result.get("missing") or []
    if not missing:
        return
    path, variant = missing[0], result["name"]
    near = (result.get("near") or {}).get(path)
    meant = f' Did you mean "{near}"?' if near else " Correct the path, or add it to that config."
    if path in given:
        raise InputError(f'--set {path}: the base config {base} has no "{path}".{meant}')
    where = sweep.where("variants", variant, "set", path)
    raise SweepFileError(
        f'{where}: the base config {base} has no "{path}", which {variant} sets.{meant}'
    )
