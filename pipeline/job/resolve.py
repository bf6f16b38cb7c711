"""From a base config and overrides to the full config of a trial, by a child process.

Answers are cached under `runs/.cache`, by the digest of all that they depend on, so that a second
launch starts no child.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, SweepFileError
from pipeline.job.torch_tools import interpreter, run_tool
from pipeline.plan.project import Project, is_file
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import make_private, read_json, write_json

#: Increased when the tools' answers change their form.
CACHE_FORM = 6


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
    """The base config's facts, and the resolved configs by name."""

    base: Mapping[str, Any]
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
    return resolve(sweep, project, sets)


def resolve(
    sweep: Sweep,
    project: Project,
    sets: Mapping[str, Mapping[str, Any]],
    given: Sequence[str] = (),
) -> Resolution:
    """Resolve the base config with each named set of overrides; see `resolve_variants`.

    Args:
        given: paths that come from `--set`, for the message about one the config lacks.
    """
    config = _config_file(sweep, project)
    request = {
        "config": str(config),
        "sets": [{"name": n, "overrides": dict(o)} for n, o in sets.items()],
        "code_root": sweep.job.code_root,
    }
    answer = _cached("resolve_config", request, sweep, project)
    for result in answer["results"]:
        _refuse_missing(sweep, result, given)
    return Resolution(
        base=answer["base"],
        configs={r["name"]: _config(r) for r in answer["results"]},
    )


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
    """

    lr: Sequence[float] | None
    lr_error: str | None
    problems: Sequence[str]
    classes: int | None
    joints: int | None
    follows: Sequence[Sequence[str]] = ()
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()

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
        loads: what the batches of each loader take of the machine.
        notes: what could not be rehearsed.
    """

    problems: Sequence[str] = ()
    metrics: Sequence[str] | None = None
    loads: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


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
) -> tuple[dict[str, ModelProbe], dict[str, RehearsalResult]]:
    """Build each config's schedule and model once, and rehearse it on its data.

    Answers with a problem are not cached: the problem may be in the model's code.

    Args:
        placed: by name, the config as it would run on this machine and its annotations.
        data: of a trial's specification, where samples are read from a prepared store.

    Raises:
        NotReady: the child could not be run.
    """
    cached = _ProbeCache(sweep, project)
    for name, config in configs.items():
        cached.look("results", name, config.text)
    for name, (text, files) in placed.items():
        read = [_stamp(file) for file in files]
        cached.look("rehearsals", name, text, read, sweep.job.gpus, dict(data or {}))
    unknown = cached.unknown
    if unknown:
        request = {
            "configs": {n: c.text for n, c in configs.items() if ("results", n) in unknown},
            "rehearse": {n: placed[n][0] for n in placed if ("rehearsals", n) in unknown},
            "ranks": sweep.job.gpus,
            "data": data,
        }
        cached.add(run_tool("probe", request, sweep.job, project.root))
    return (
        {name: ModelProbe(**cached.answers["results", name]) for name in configs},
        {name: RehearsalResult(**cached.answers["rehearsals", name]) for name in placed},
    )


class _ProbeCache:
    """The answers of the probe so far, by part and name, each in a file of its own."""

    def __init__(self, sweep: Sweep, project: Project) -> None:
        self.answers: dict[tuple[str, str], dict[str, Any]] = {}
        self._sweep, self._project = sweep, project
        self._files: dict[tuple[str, str], Path] = {}

    @property
    def unknown(self) -> list[tuple[str, str]]:
        return [key for key in self._files if key not in self.answers]

    def look(self, part: str, name: str, *depends: Any) -> None:
        """Find the answer that depends on nothing else."""
        file = _cache_file(f"probe-{part}", list(depends), self._sweep, self._project)
        self._files[part, name] = file
        known = read_json(file)
        if known is not None:
            self.answers[part, name] = known["answer"]

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take the child's answers over; keep those without a problem."""
        for part, name in self.unknown:
            one = answer[part][name]
            self.answers[part, name] = one
            if not one["problems"] and not one["notes"] and not one.get("lr_error"):
                _write_cache(self._project, self._files[part, name], {"answer": one})


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


def _config_file(sweep: Sweep, project: Project) -> Path:
    path = Path(sweep.config)
    path = path if path.is_absolute() else project.root / path
    if path.suffix != ".py":
        raise InputError(
            f'{sweep.where("config")}: the base config is "{sweep.config}", but must be a Python '
            "file (.py): MMEngine reads other kinds in a way that can run code unseen."
        )
    if not is_file(path):
        raise InputError(
            f'{sweep.where("config")}: the base config "{sweep.config}" is missing. Paths are '
            f"relative to {project.root}."
        )
    return path


def _cached(tool: str, request: dict[str, Any], sweep: Sweep, project: Project) -> dict[str, Any]:
    file = _cache_file(tool, request, sweep, project)
    cached = read_json(file)
    if cached is not None and _unchanged(cached.get("files", {})):
        return dict(cached["answer"])
    answer = run_tool(tool, request, sweep.job, project.root)
    files = {path: _file_digest(Path(path)) for path in answer.get("files", [])}
    _write_cache(project, file, {"files": files, "answer": answer})
    return answer


def _cache_file(tool: str, request: Any, sweep: Sweep, project: Project) -> Path:
    python = interpreter(sweep.job, project.root)
    key = [CACHE_FORM, tool, request, sweep.job.code_root, python, _version()]
    return project.cache / f"{tool}-{digest(json.dumps(key, sort_keys=True))[:32]}.json"


def _write_cache(project: Project, file: Path, answer: dict[str, Any]) -> None:
    make_private(project.cache)
    write_json(file, answer, durable=False)


def _unchanged(files: Mapping[str, str]) -> bool:
    return all(_file_digest(Path(path)) == old for path, old in files.items())


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _version() -> str:
    try:
        return importlib.metadata.version("mmengine")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _config(result: Mapping[str, Any]) -> ResolvedConfig:
    changes = tuple(Change(path=c["path"], old=c["old"], new=c["new"]) for c in result["changes"])
    return ResolvedConfig(
        text=result["config"],
        hash=digest(result["config"]),
        changes=changes,
        facts=result["facts"],
    )


def _refuse_missing(sweep: Sweep, result: Mapping[str, Any], given: Sequence[str]) -> None:
    missing = result.get("missing") or []
    if not missing:
        return
    path, variant = missing[0], result["name"]
    near = (result.get("near") or {}).get(path)
    meant = f' Did you mean "{near}"?' if near else " Correct the path, or add it to that config."
    if path in given:
        raise InputError(f'--set {path}: the base config {sweep.config} has no "{path}".{meant}')
    where = sweep.where("variants", variant, "set", path)
    raise SweepFileError(
        f'{where}: the base config {sweep.config} has no "{path}", which {variant} sets.{meant}'
    )
