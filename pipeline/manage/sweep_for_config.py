"""`pcan init --from CONFIG`: a sweep file for a config of the user's own.

What can be found is found: epochs, rate and data from the resolved config, the names of the
metrics from a log or from one sample through model and evaluator, the accuracy of the checkpoint
from the log. What only the user can decide is in the file as a first proposal.
"""

import dataclasses
import json
import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.diagnose.curve import Curve
from pipeline.diagnose.read_log import read_log
from pipeline.errors import InputError, PcanError
from pipeline.job.oldest_versions import refuse_old_environment
from pipeline.job.resolve import data_root_of
from pipeline.job.torch_tools import run_tool
from pipeline.manage.init_project import new_mark
from pipeline.plan.project import MARK, Project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import JobSettings
from pipeline.plan.sweep_types import NAME_PATTERN
from pipeline.preflight.plan_facts import resolve_and_check

LOADERS = ("train_dataloader", "val_dataloader")
#: The first proposal of a plan: how far the first epoch may fall, when it has to have improved.
FALL, LATER, MIN_DELTA, PATIENCE = 0.01, 5, 0.0005, 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigSource:
    """What the user names: the config, and what belongs to it. Paths as they were typed."""

    config: Path
    checkpoint: Path | None = None
    code_root: Path | None = None
    python: Path | None = None
    log: Path | None = None

    def settings(self) -> JobSettings:
        """Return how jobs run, with absolute paths."""
        return JobSettings(
            python=_absolute(self.python) if self.python else None,
            code_root=_absolute(self.code_root) if self.code_root else None,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFacts:
    """What was found about a config; None where it is not known.

    Args:
        base: the facts of the resolved config.
        metric: the objective's name among the validation's metrics.
        branches: "rgb" and "pose" to the names of their metrics.
        known: the accuracy of the checkpoint, a fraction.
        data_root: where the data lie, as a project's file names it.
        notes: sentences for the user.
    """

    base: Mapping[str, Any]
    metric: str
    branches: Mapping[str, str]
    known: float | None
    data_root: str | None
    notes: Sequence[str]


def sweep_for_config(folder: Path, source: ConfigSource) -> tuple[list[Path], list[str]]:
    """Write a sweep file into a project's folder, which is made if it is missing.

    Returns:
        The files written, relative to the folder, and sentences for the user.

    Raises:
        InputError: a path is wrong, the config cannot carry a plan, or the file exists.
        NotReady: the interpreter is too old or cannot be run.
    """
    _refuse_missing(source)
    name = _name_for(source.config)
    file = folder / "sweeps" / f"{name}.yaml"
    if file.exists():
        raise InputError(f"{file} exists already; nothing is overwritten. Move it away first.")
    refuse_old_environment(source.settings(), Path.cwd())
    found = _facts(folder, source)
    written = [Path(MARK)] if new_mark(folder) else []
    file.parent.mkdir(exist_ok=True)
    file.write_text(sweep_text(name, folder, source, found))
    try:
        resolve_and_check(read_sweep(file, folder.resolve()), Project(folder.resolve()))
    except PcanError:
        file.unlink()
        raise
    return [*written, file.relative_to(folder)], list(found.notes)


def _refuse_missing(source: ConfigSource) -> None:
    wanted = {
        "--from": (source.config, Path.is_file, "a config file"),
        "--checkpoint": (source.checkpoint, Path.is_file, "a checkpoint file"),
        "--code-root": (source.code_root, Path.is_dir, "a folder"),
        "--python": (source.python, Path.exists, "an interpreter"),
        "--log": (source.log, Path.exists, "a log or work dir"),
    }
    for option, (path, is_there, what) in wanted.items():
        if path is not None and not is_there(path.expanduser()):
            raise InputError(f"{option}: there is no {what[what.index(' ') + 1 :]} {path}.")


def _name_for(config: Path) -> str:
    """Return a sweep's name from the config's file name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", config.stem).strip("-._")
    return name if re.fullmatch(NAME_PATTERN, name) else "mine"


def _absolute(path: Path) -> str:
    return os.path.abspath(path.expanduser())


def _facts(folder: Path, source: ConfigSource) -> ConfigFacts:
    job, here = source.settings(), Path.cwd()
    request = {
        "config": _absolute(source.config),
        "sets": [{"name": "base", "overrides": {}}],
        "code_root": job.code_root,
    }
    [result] = run_tool("resolve_config", request, job, here)["results"]
    text, base = str(result["config"]), result["facts"]
    files = {k: str(v) for k, v in (base.get("ann_files") or {}).items() if k in LOADERS}
    place = _place_of(folder, source, files.values())
    curve = read_log(source.log) if source.log is not None else None
    names = _metric_names(curve) or _rehearsed(text, job, place if files else here)
    metric = _objective(text, curve, names)
    root, notes = _data(folder, text, files, place)
    return ConfigFacts(
        base=base,
        metric=metric,
        branches=branches(names, metric),
        known=_known(source, curve, metric),
        data_root=root,
        notes=notes,
    )


def _place_of(folder: Path, source: ConfigSource, files: Any) -> Path | None:
    """Return the folder from which a config's relative annotations are found, None without."""
    above = [Path(_absolute(source.config)).parents[i] for i in (0, 1)]
    code = [Path(_absolute(source.code_root))] if source.code_root else []
    places = [folder.absolute(), Path.cwd(), *code, *above]
    return next((p for p in places if files and all((p / f).is_file() for f in files)), None)


def _data(
    folder: Path, text: str, files: Mapping[str, str], place: Path | None
) -> tuple[str | None, list[str]]:
    """Return the project's `data.root`, and what the user has to do himself."""
    if not files or all(os.path.isabs(one) for one in files.values()):
        return None, []
    if place is None:
        listed = ", ".join(sorted(set(files.values())))
        return None, [
            f"The data are not found ({listed}). Jobs run in the project's folder, so relative "
            "paths of the config begin there; or set data.root in the sweep file."
        ]
    if place == folder.absolute():
        return None, []
    own = data_root_of(text)
    if own and all(f"{one}/".startswith(f"{own.rstrip('/')}/") for one in files.values()):
        return os.path.relpath(place / own, folder), []
    top = sorted({one.split("/")[0] for one in files.values()})[0]
    link = shlex.quote(os.path.relpath(place / top, folder))
    return None, [
        f"The config's data are relative to {place}, and jobs run in the project's folder. Make "
        f"them found there, such as by: ln -s {link} {shlex.quote(top)}"
    ]


def _metric_names(curve: Curve | None) -> list[str]:
    """Return the metrics of a log's last validation."""
    measured = [p.metrics for p in (curve.points if curve else ()) if p.metrics]
    return list(measured[-1]) if measured else []


def _rehearsed(text: str, job: JobSettings, place: Path | None) -> list[str]:
    """Return the names that one sample through model and evaluator gives, if data are there."""
    if place is None:
        return []
    request = {"configs": {}, "rehearse": {"base": text}}
    answer = run_tool("probe", request, job, place)["rehearsals"]["base"]
    return list(answer["metrics"] or [])


def _objective(text: str, curve: Curve | None, names: Sequence[str]) -> str:
    """Return the metric to maximise: the one the config saves by, else the fused top-1.

    Raises:
        InputError: no name is known.
    """
    named: list[str] = re.findall(r'\b(?:save_best|monitor)="([^"]+)"', text)
    named += [curve.facts.save_best] if curve is not None and curve.facts.save_best else []
    known = [one for one in named if one != "auto"]
    if names:
        whole = [one for one in names if one.endswith("1:1_top1")]
        top1 = [one for one in names if "top1" in one and not _branch_of(one)]
        chosen = [one for one in known if one in names]
        return [*chosen, *whole, *top1, *names][0]
    if known:
        return known[0]
    raise InputError(
        "The names of the validation's metrics are not known: the config names none and its data "
        "are not found. Name a log of an earlier run of it: --log WORKDIR"
    )


def _branch_of(name: str) -> str | None:
    """Return "rgb" or "pose" where a metric is that branch's own."""
    words = re.split(r"[/_.\s]", name.lower())
    found = [branch for branch in ("rgb", "pose") if branch in words]
    return found[0] if len(found) == 1 else None


def branches(names: Sequence[str], metric: str) -> dict[str, str]:
    """Return the metric of each branch, of the objective's kind where there are several."""
    kind = re.split("[/_]", metric)[-1]
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda one: not one.endswith(kind)):
        branch = _branch_of(name)
        if branch is not None and name != metric:
            found.setdefault(branch, name)
    return found


def _known(source: ConfigSource, curve: Curve | None, metric: str) -> float | None:
    """Return the checkpoint's own accuracy where the log has it; a damaged file is refused."""
    if source.checkpoint is None:
        return None
    request = {"checkpoint": _absolute(source.checkpoint)}
    epoch = run_tool("inspect_checkpoint", request, source.settings(), Path.cwd())["file"]["epoch"]
    if curve is None:
        return None
    at = {point.epoch: point.metrics.get(metric) for point in curve.points}
    value = at.get(epoch)
    value = at.get(0, curve.facts.start_top1) if value is None else value
    return value if value is not None and 0 < value <= 1 else None


def sweep_text(name: str, folder: Path, source: ConfigSource, found: ConfigFacts) -> str:
    """Return the text of the sweep file."""

    def shown(path: Path | None) -> str | None:
        if path is None:
            return None
        full = path.expanduser()
        return str(full) if full.is_absolute() else os.path.relpath(full, folder)

    lines = [
        "# A first proposal by `pcan init --from`. `pcan sweep plan` shows what it means.",
        f"name: {name}",
        f"config: {_yaml(shown(source.config))}",
        "objective:",
        f"  metric: {_yaml(found.metric)}",
    ]
    if found.branches:
        pairs = ", ".join(f"{k}: {_yaml(v)}" for k, v in sorted(found.branches.items()))
        lines.append(f"  branches: {{{pairs}}}")
    if found.known is not None:
        lines.append(f"  best_known: {found.known:g}")
    lines += ["  # goal: 0.91           # a fraction", "job:", "  gpus: 2"]
    for key, path in (("python", source.python), ("code_root", source.code_root)):
        lines += [f"  {key}: {_yaml(shown(path))}"] if path is not None else []
    lines += ["  # epoch_minutes: 15    # for the estimate of GPU hours until one is measured"]
    if found.data_root is not None:
        lines.append(f"data: {{root: {_yaml(found.data_root)}}}")
    if source.checkpoint is not None:
        lines += ["warm_start:", f"  checkpoint: {_yaml(shown(source.checkpoint))}"]
        expected = "# expect: 0.89" if found.known is None else f"expect: {found.known:g}"
        lines.append(f"  {expected:<22} # its accuracy: measured before training")
    return "\n".join([*lines, *_plan(found, source.checkpoint is not None)]) + "\n"


def _plan(found: ConfigFacts, warm: bool) -> Iterator[str]:
    """Yield the part with variants, gates and ladder."""
    last, lr = int(found.base["max_epochs"] or 1), found.base.get("lr")
    epochs = set(found.base.get("val_epochs") or ())
    wait = min(PATIENCE, max(1, last // 2))
    yield f"patience: {{epochs: {wait}, min_delta: {MIN_DELTA}}}"
    lower = isinstance(lr, float | int) and lr > 0
    rules: list[str] = []
    yield "gates:" if warm and _gated(found, epochs, last) else "gates: []"
    if warm and found.known is not None and 1 in epochs:
        floor = math.floor(1000 * (found.known - FALL)) / 1000
        yield f"  - {{epoch: 1, floor: {floor:g}}}"
        rules.append(f"{{epoch: 1, below: {floor:g}, next: [lower-lr]}}")
    if warm and {1, LATER} <= epochs and last > LATER:
        yield f"  - {{epoch: {LATER}, improve_on_epoch: 1, min_delta: {MIN_DELTA}}}"
        rules.append(f"{{epoch: {LATER}, rule: no_improvement, next: [lower-lr]}}")
    yield "variants:"
    yield "  baseline: {}           # the config as it is; write changes as set: {path: value}"
    if lower:
        yield "  lower-lr:"
        yield f"    set: {{optim_wrapper.optimizer.lr: {float(lr or 0) / 3:.2g}}}"
        rules.append("{cause: nan, next: [lower-lr]}")
    yield "ladder:"
    yield "  start: baseline"
    if lower:
        yield "  after:"
        yield from (f"    - {rule}" for rule in rules)


def _gated(found: ConfigFacts, epochs: set[int], last: int) -> bool:
    return (found.known is not None and 1 in epochs) or ({1, LATER} <= epochs and last > LATER)


def _yaml(text: str | None) -> str:
    """Return a text as YAML writes it: bare where that is safe."""
    bare = re.fullmatch(r"[A-Za-z./][\w./:-]*[\w/]", text or "", re.ASCII)
    return str(text) if bare and ": " not in str(text) else json.dumps(text, ensure_ascii=False)
