"""Before the first trial: build each config's model once and compare it with its data."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.labels import ALL, annotation_facts
from pipeline.errors import InputError, NotReady
from pipeline.job.resolve import (
    MemoryQuestion,
    ModelProbe,
    RehearsalResult,
    Resolution,
    ResolvedConfig,
    placed_path,
    probe_configs,
    rehearse_configs,
    resolve,
)
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.preflight.machine_limits import LimitProblems, loader_limits, loads_of
from pipeline.preflight.machine_overrides import DATA_ROOT, apply_data_root, missing_data_hint
from pipeline.preflight.memory_check import DeviceMemory, memory_findings
from pipeline.shared.counted import counted
from pipeline.shared.store import StoreError, default_store, spec_data

#: Samples of this store are read as the config says.
DEFAULT_STORE = "video"
#: A job never opens the test set, which need not be on this machine.
TRAINED_WITH = ("train_dataloader", "val_dataloader")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataPlacement:
    """Where the data lies on this machine.

    Args:
        root: replaces the config's `data_root`, None to keep that.
        sets: machine facts by config path.
    """

    root: str | None
    sets: Mapping[str, Any]


def probe_models(
    sweep: Sweep,
    project: Project,
    resolution: Resolution,
    variants: Sequence[str],
    say: Callable[[str], None],
    placed: DataPlacement | None = None,
    jobs: int = 0,
    memory: DeviceMemory | None = None,
) -> dict[str, Sequence[float]]:
    """Refuse configs that no job could train; return each variant's true lr course.

    Takes seconds the first time, for all variants of the sweep, and nothing while configs, data,
    code and packages do not change.

    Args:
        say: prints one line.
        placed: where the data lies; None to skip the data.
        jobs: that will run on this machine at the same time; 0: on other machines.
        memory: of the device that they will run on; None: it is not looked at.

    Raises:
        InputError: all that is wrong with the configs, a line each.
        NotReady: an annotation or a prepared store is missing; this machine cannot load batches
            of that size.
    """
    configs = resolution.configs
    texts = placed_texts(sweep, project, configs, placed) if placed is not None else {}
    asked = memory.question() if memory is not None else None
    probes, rehearsals = _rehearse(
        sweep, project, configs, texts, variants, say, here=jobs > 0, memory=asked
    )
    for name, probe in probes.items():
        for line in (*_remarks(probe), *getattr(rehearsals.get(name), "notes", ())):
            say(f"{name}: {line}")
    for line in grouped({name: one.labels for name, one in rehearsals.items()}):
        say(f"label_mismatch: {line}")
    problems = {
        name: _problems(sweep, project, name, configs[name], probe, rehearsals.get(name), placed)
        for name, probe in probes.items()
    }
    if any(problems.values()):
        raise InputError("\n".join(grouped(problems)))
    if jobs:
        _check_batches({name: batch_limits(sweep, r, jobs) for name, r in rehearsals.items()}, say)
    if memory is not None:
        takes = {n: memory_limits(sweep, configs[n], r, memory) for n, r in rehearsals.items()}
        _check_batches(takes, say)
    exact = {n: one for n, one in probes.items() if not one.lr_follows and not one.near}
    return {n: one.lr for n, one in exact.items() if one.lr is not None}


def _problems(
    sweep: Sweep,
    project: Project,
    variant: str,
    config: ResolvedConfig,
    probe: ModelProbe,
    rehearsal: RehearsalResult | None,
    placed: DataPlacement | None,
) -> list[str]:
    """Return what is wrong with a config: with its model; else its data; else its rehearsal."""
    found = list(probe.problems)
    if placed is not None and not found:
        found += data_problems(project, config, probe, placed)
    if rehearsal is not None and not found:
        found += rehearsal_problems(sweep, variant, probe, rehearsal)
    return found


def _rehearse(
    sweep: Sweep,
    project: Project,
    configs: Mapping[str, ResolvedConfig],
    texts: Mapping[str, tuple[str, list[Path]]],
    wanted: Sequence[str],
    say: Callable[[str], None],
    *,
    here: bool,
    memory: MemoryQuestion | None = None,
) -> tuple[dict[str, ModelProbe], dict[str, RehearsalResult]]:
    """Rehearse the configs, or only build their models where data cannot be read here.

    Args:
        wanted: the configs that count now.
        here: the jobs will run on this machine; else one that cannot do either goes on without.
    """
    data = store_data(sweep, project) if texts else None
    try:
        return rehearse_configs(sweep, project, configs, texts, data, wanted, memory)
    except NotReady as error:
        if not texts and here:
            raise
        say(f"The configs are not rehearsed on their data. {error}")
    try:
        chosen = {name: configs[name] for name in wanted}
        return probe_configs(sweep, project, chosen), {}
    except NotReady:
        if here:
            raise
        say("Nor are their models built on this machine; the jobs run on others.")
        return {}, {}


def _check_batches(limits: Mapping[str, LimitProblems], say: Callable[[str], None]) -> None:
    """Refuse batches that this machine cannot load; say where it may be short of something."""
    for line in grouped({name: found.likely for name, found in limits.items()}):
        say(line)
    certain = grouped({name: found.certain for name, found in limits.items()})
    LimitProblems(certain=tuple(certain)).refuse()


def batch_limits(sweep: Sweep, rehearsal: RehearsalResult, jobs: int) -> LimitProblems:
    """Return what of this machine the loaders of a rehearsed config exceed."""
    prepared = sweep.data.store != DEFAULT_STORE
    return loader_limits(loads_of(rehearsal.loads), jobs, sweep.job.gpus, prepared)


def memory_limits(
    sweep: Sweep, config: ResolvedConfig, rehearsal: RehearsalResult, device: DeviceMemory
) -> LimitProblems:
    """Return what of the device's memory a rehearsed config exceeds."""
    found = memory_findings(rehearsal.memory, config.facts, device, sweep.job.gpus)
    return LimitProblems(
        certain=tuple(one.sentence for one in found if one.certain),
        likely=tuple(one.sentence for one in found if not one.certain),
    )


def store_data(sweep: Sweep, project: Project) -> dict[str, Any]:
    """Return where a trial's samples come from, as its specification names it.

    Raises:
        NotReady: the sweep reads a prepared store, and there is no finished one.
    """
    try:
        return spec_data(sweep.data.store, default_store(project.root, sweep.name))
    except StoreError as error:
        raise NotReady(f"{error} Make it: pcan data prepare {sweep.name}") from None


def grouped(problems: Mapping[str, Iterable[str]]) -> list[str]:
    """Return each problem once, a line with the names of all variants that have it."""
    names: dict[str, list[str]] = {}
    for name, found in problems.items():
        for problem in found:
            names.setdefault(problem, []).append(name)
    return [f"{', '.join(having)}: {problem}" for problem, having in names.items()]


def _remarks(probe: ModelProbe) -> Iterator[str]:
    """Yield what of a config is done otherwise, or not checked."""
    yield from probe.notes
    for hook in probe.left_out:
        yield f"{hook} is left out; the job does its work itself."
    if probe.lr_follows:
        metrics = ", ".join(probe.lr_follows)
        yield f"the lr follows {metrics}, so it is not checked against a schedule."
    elif probe.lr_error:
        yield f"the lr is not checked against the schedule. {probe.lr_error}"


def placed_texts(
    sweep: Sweep,
    project: Project,
    configs: Mapping[str, ResolvedConfig],
    placed: DataPlacement,
) -> dict[str, tuple[str, list[Path]]]:
    """Return each config as it would run here, with its annotations, as far as they are here."""
    machine = {key: value for key, value in placed.sets.items() if key != DATA_ROOT}
    if machine:
        sets = {name: {**sweep.variants[name].set, **machine} for name in configs}
        speed = sweep.job.speed.named()
        configs = resolve(sweep, project, sets, tuple(machine), speed).configs
    texts = {}
    for name, config in configs.items():
        files = [
            project.root / placed_path(config.text, str(file), placed.root)
            for loader, file in (config.facts.get("ann_files") or {}).items()
            if loader in TRAINED_WITH
        ]
        if all(file.is_file() for file in files):
            texts[name] = apply_data_root(config.text, placed.root), files
    return texts


def rehearsal_problems(
    sweep: Sweep, variant: str, probe: ModelProbe, rehearsal: RehearsalResult
) -> Iterator[str]:
    """Yield what a rehearsal found: samples, and names that the validation does not give."""
    yield from rehearsal.problems
    if rehearsal.metrics is None:
        return
    have = ", ".join(rehearsal.metrics)
    other = sweep.metric_of(variant) != sweep.objective.metric
    where = sweep.where(*(("variants", variant) if other else ("objective",)))
    instead = "Set its metric." if other else "Set objective.metric and objective.branches."
    if not other and sweep.config_of(variant) != sweep.config:
        instead = f"{instead[:-1]}, or a metric of {variant}'s own."
    for name in (sweep.metric_of(variant), *sweep.branches_of(variant).values()):
        if name not in rehearsal.metrics:
            yield f'the validation has no metric "{name}" ({where}). It has: {have}. {instead}'
    for kind, name in probe.follows:
        if name not in rehearsal.metrics:
            yield (
                f'param_scheduler: {kind} waits for the metric "{name}", which the validation '
                f"does not give. It has: {have}. Set its monitor to one of them."
            )


#: Data sets of MMAction2, which read the annotation that they name from a file; one of a project's
#: own may take the name for something else.
_FROM_FILE = ("PoseDataset", "VideoDataset", "RawframeDataset", "AVADataset", "ActivityNetDataset")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingAnnotation:
    """An annotation of training or validation that is not there.

    Args:
        loader: that reads it.
        path: where it should be; None if the config names none.
        certain: whether a job is sure to fail without it.
        hint: what to do about it.
    """

    loader: str
    path: Path | None
    certain: bool
    hint: str


def missing_annotations(
    project: Project, config: ResolvedConfig, root: str | None, sets: Mapping[str, Any]
) -> Iterator[MissingAnnotation]:
    """Yield each annotation of training and validation that is not there.

    Args:
        root: of the data on this machine.
        sets: `--set` by config path.
    """
    kinds, keys = config.facts.get("data_kinds") or {}, config.facts.get("ann_keys") or {}
    for loader, name in (config.facts.get("ann_files") or {}).items():
        if loader not in TRAINED_WITH or not isinstance(name, str) or "://" in name:
            continue
        key = keys.get(loader, f"{loader}.dataset.ann_file")
        named = str(sets.get(key, placed_path(config.text, name, root)))
        certain = kinds.get(loader) in _FROM_FILE
        if named and not (project.root / named).exists():
            hint = missing_data_hint(sets, root, config.text, name, key)
            path = project.root / named
            yield MissingAnnotation(loader=loader, path=path, certain=certain, hint=hint)
        elif not named and certain:
            hint = f"Name a file: --set {key}=FILE, or the config that does."
            yield MissingAnnotation(loader=loader, path=None, certain=certain, hint=hint)


def unnamed_splits(
    project: Project, config: ResolvedConfig, root: str | None, sets: Mapping[str, Any]
) -> Iterator[str]:
    """Yield each loader of joints that names no split of an annotation that has some.

    MMAction2's PoseDataset then takes the annotation's two parts for its clips.

    Args:
        root: of the data on this machine.
        sets: `--set` by config path.
    """
    facts = config.facts
    splits, kinds = facts.get("ann_splits") or {}, facts.get("data_kinds") or {}
    for loader, name in (facts.get("ann_files") or {}).items():
        if loader not in TRAINED_WITH or kinds.get(loader) != "PoseDataset" or loader in splits:
            continue
        key = (facts.get("ann_keys") or {}).get(loader, f"{loader}.dataset.ann_file")
        path = project.root / str(sets.get(key, placed_path(config.text, str(name), root)))
        if path.suffix != ".pkl" or not path.is_file():
            continue
        try:
            has = ", ".join(one for one in annotation_facts(path, project.cache) if one != ALL)
        except (InputError, NotReady):  # whoever reads its clips says why
            continue
        if has:
            yield (
                f"{loader}: {path} has splits ({has}), and its data set names none. Write split= "
                f"beside ann_file in the config, where {key} is."
            )


def data_problems(
    project: Project,
    config: ResolvedConfig,
    probe: ModelProbe,
    placed: DataPlacement,
) -> Iterator[str]:
    """Yield how a model's classes or joints do not fit the annotations it is trained on.

    Raises:
        NotReady: an annotation is missing.
    """
    for lack in missing_annotations(project, config, placed.root, placed.sets):
        if lack.certain:
            shown = lack.path or "its ann_file is empty"
            raise NotReady(f"The annotation is missing: {shown} ({lack.loader}). {lack.hint}")
    yield from unnamed_splits(project, config, placed.root, placed.sets)
    splits = config.facts.get("ann_splits") or {}
    files = config.facts.get("ann_files") or {}
    for loader in [loader for loader in TRAINED_WITH if loader in files]:
        name = files[loader]
        moved = placed_path(config.text, str(name), placed.root)
        key = (config.facts.get("ann_keys") or {}).get(loader, f"{loader}.dataset.ann_file")
        named = placed.sets.get(key, moved)
        path = project.root / str(named)
        if path.suffix != ".pkl" or not path.is_file():
            continue  # a list of videos: it has no joints, and its own loader reads its labels
        yield from _against(loader, path, splits.get(loader) or ALL, probe, project.cache)


def _against(loader: str, path: Path, split: str, probe: ModelProbe, cache: Path) -> Iterator[str]:
    facts = annotation_facts(path, cache)
    if split not in facts:
        have = ", ".join(name for name in facts if name != ALL) or "none"
        yield f'{loader}: {path} has no split "{split}". It has: {have}.'
        return
    highest, joints = facts[split]["highest_label"], facts[split]["joints"]
    if probe.classes is not None and highest >= probe.classes:
        yield (
            f"{loader}: {facts[split]['clip']} in {path} has label {highest}, but the head has "
            f"{counted(probe.classes, 'class', 'classes')} (labels 0 to {probe.classes - 1}). Set "
            "model.cls_head.num_classes, or use the annotation that belongs to the head."
        )
    if probe.joints is not None and joints and joints != [probe.joints]:
        yield (
            f"{loader}: {path} has {_words(joints)} joints a person, but the pose pathway is "
            f"built for {probe.joints}. Set model.backbone.pose_pathway.in_channels, or use the "
            "annotation that belongs to the model."
        )


def _words(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))
