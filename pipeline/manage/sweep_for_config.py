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
from pathlib import Path, PureWindowsPath
from typing import Any

from pipeline.diagnose.curve import Curve
from pipeline.diagnose.read_log import read_log
from pipeline.errors import InputError, PcanError
from pipeline.job.oldest_versions import refuse_old_environment
from pipeline.job.resolve import data_root_of
from pipeline.job.torch_tools import run_tool
from pipeline.manage.init_project import new_mark
from pipeline.manage.metric_names import MetricNames, branches, evaluated, objective
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
    metric: str | None = None

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
        checkpoint: the weights to start from, as typed or as the config's `load_from` is found.
        known: the accuracy of the checkpoint, a fraction.
        data_root: where the data lie, as a project's file names it.
        notes: sentences for the user.
    """

    base: Mapping[str, Any]
    metric: str
    branches: Mapping[str, str]
    checkpoint: Path | None
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
    _refuse_untrained(source.config, base)
    listed = {k: str(v) for k, v in (base.get("ann_files") or {}).items() if k in LOADERS}
    files = {k: v for k, v in listed.items() if v}
    place = place_of(folder, source, files.values())
    curve = read_log(source.log) if source.log is not None else None
    logged = any(point.metrics for point in curve.points) if curve is not None else False
    sample = [] if logged else _rehearsed(text, job, place if files else here)
    known = _metric_names(source, base, curve, sample)
    metric, notes = _chosen(source, base, known, curve)
    keys = {k: str(v) for k, v in (base.get("ann_keys") or {}).items() if k in listed}
    root, more = _data(folder, text, files, place, keys)
    start, about = _start_of(folder, source, base.get("load_from"))
    return ConfigFacts(
        base=base,
        metric=metric,
        branches=branches(known.names, metric),
        checkpoint=start,
        known=_known(source, curve, metric),
        data_root=root,
        notes=[*notes, *more, *about],
    )


def _refuse_untrained(config: Path, base: Mapping[str, Any]) -> None:
    """Refuse a config that no plan can be made for, before its metrics are asked for."""
    if base.get("max_epochs") is None and base.get("max_iters") is not None:
        raise InputError(
            f"{config} trains by iterations (train_cfg.max_iters); pcan trains by epochs. Write "
            'train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=...).'
        )
    if base.get("max_epochs") is None:
        raise InputError(
            f"{config} has no train_cfg.max_epochs: it says how a model is tested or used, not "
            "trained. Name the config that trains it."
        )
    if base.get("has_validation") is False:
        raise InputError(
            f"{config} does not validate, so nothing can be judged. Give it val_dataloader, "
            "val_cfg and val_evaluator."
        )


def _start_of(folder: Path, source: ConfigSource, load_from: Any) -> tuple[Path | None, list[str]]:
    """Return the weights that the plan starts from, and what to say of those not found.

    A config that is trained as it is begins with its `load_from`.
    """
    if source.checkpoint is not None or not isinstance(load_from, str) or not load_from:
        return source.checkpoint, []
    found = [place / load_from for place in _places(folder, source)]
    file = next((one for one in found if one.is_file()), None)
    if file is not None:
        file = file if os.path.isabs(load_from) else Path(os.path.relpath(file))
        return file, [f"The config starts from {load_from} (load_from), and so does the plan."]
    do = "Download it and name the file" if "://" in load_from else "It is not found here; name it"
    return None, [
        f"The config starts from {load_from} (load_from). {do}: --checkpoint FILE, or "
        "warm_start.checkpoint in the sweep file. Without it a trial begins with random weights."
    ]


def _chosen(
    source: ConfigSource, base: Mapping[str, Any], known: MetricNames, curve: Curve | None
) -> tuple[str, list[str]]:
    """Return the objective's metric, and what to say of the names.

    Raises:
        InputError: no name is known, or the one given is not among those that are.
    """
    if source.metric is None:
        return objective(base, known, curve.facts.save_best if curve is not None else None)
    if known.all_known and known.names and source.metric not in known.names:
        raise InputError(
            f'--metric: the validation gives no "{source.metric}". It gives: '
            f"{', '.join(known.names)}."
        )
    return source.metric, []


def _places(folder: Path, source: ConfigSource) -> list[Path]:
    """Return the folders where relative paths of a config may begin, the likeliest first.

    The project's own is among them only if it is there already.
    """
    own = [folder.absolute()] if folder.is_dir() else []
    code = [Path(_absolute(source.code_root))] if source.code_root else []
    return [*own, Path.cwd(), *code, *Path(_absolute(source.config)).parents]


def place_of(folder: Path, source: ConfigSource, files: Any) -> Path | None:
    """Return the folder from which a config's relative annotations are found, None without."""
    places = _places(folder, source)
    return next((p for p in places if files and all((p / f).exists() for f in files)), None)


def _data(
    folder: Path,
    text: str,
    files: Mapping[str, str],
    place: Path | None,
    keys: Mapping[str, str],
) -> tuple[str | None, list[str]]:
    """Return the project's `data.root`, and what the user has to do himself."""
    whole = all(os.path.isabs(one) for one in files.values())
    listed = ", ".join(sorted(set(files.values())))
    windows = any(PureWindowsPath(one).drive for one in files.values())
    lacks = bool(files) and place is None and (whole or windows)
    if lacks or len(files) < len(keys):
        why = f"{'by paths of Windows ' if windows else ''}that are not found here"
        why = f"{why}: {listed}" if lacks else "by an empty ann_file"
        given = ", ".join(f"{key}: FILE" for key in keys.values())
        return None, [
            f"The config names data {why}. Write into the sweep file where they are, as "
            f"baseline: {{set: {{{given}}}}}, and the folders of the videos in the same way."
        ]
    if not files or whole:
        return None, []
    own = data_root_of(text)
    below = own and all(f"{one}/".startswith(f"{own.rstrip('/')}/") for one in files.values())
    if place is None:
        given = ", ".join(f"{key}: FILE" for key in keys.values())
        other = "data.root" if below else f"baseline: {{set: {{{given}}}}}"
        return None, [
            f"The data are not found ({listed}). Jobs run in the project's folder, so relative "
            f"paths of the config begin there; or write {other} into the sweep file."
        ]
    if place == folder.absolute():
        return None, []
    if own and below:
        return os.path.relpath(place / own, folder), []
    top = sorted({one.split("/")[0] for one in files.values()})[0]
    link = shlex.quote(os.path.relpath(place / top, folder))
    return None, [
        f"The config's data are relative to {place}, and jobs run in the project's folder. Make "
        f"them found there, such as by: ln -s {link} {shlex.quote(top)}"
    ]


def _metric_names(
    source: ConfigSource, base: Mapping[str, Any], curve: Curve | None, sample: Sequence[str]
) -> MetricNames:
    """Return the validation's metrics: of a log, else of a sample, else by the evaluator."""
    measured = [p.metrics for p in (curve.points if curve else ()) if p.metrics]
    if measured or sample:
        return MetricNames(names=list(measured[-1]) if measured else sample, all_known=True)
    found = evaluated(base)
    # A checkout may have an AccMetric of its own, with more names.
    return dataclasses.replace(found, all_known=found.all_known and source.code_root is None)


def _rehearsed(text: str, job: JobSettings, place: Path | None) -> list[str]:
    """Return the names that one sample through model and evaluator gives, if data are there."""
    if place is None:
        return []
    request = {"configs": {}, "rehearse": {"base": text}}
    answer = run_tool("probe", request, job, place)["rehearsals"]["base"]
    return list(answer["metrics"] or [])


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
    if found.checkpoint is not None:
        lines += ["warm_start:", f"  checkpoint: {_yaml(shown(found.checkpoint))}"]
        expected = "# expect: 0.89" if found.known is None else f"expect: {found.known:g}"
        lines.append(f"  {expected:<22} # its accuracy: measured before training")
    return "\n".join([*lines, *_plan(found, found.checkpoint is not None)]) + "\n"


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
        yield "    like: baseline"
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
