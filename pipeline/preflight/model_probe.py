"""Before the first trial: each config's model is built once and held against its data."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.labels import ALL, annotation_facts
from pipeline.errors import InputError, NotReady
from pipeline.job.resolve import ModelProbe, Resolution, ResolvedConfig, placed_path, probe_configs
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep

#: A job never opens the test set, which may well not be on this machine.
TRAINED_WITH = ("train_dataloader", "val_dataloader")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataPlacement:
    """Where the data lies on this machine.

    Args:
        root: in place of the config's `data_root`, None to leave it to the config.
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
) -> dict[str, Sequence[float]]:
    """Refuse configs that no job could train; return each variant's true lr course.

    Seconds the first time, nothing while configs and annotations stay as they are.

    Args:
        say: prints one line.
        placed: where the data lies; None leaves the data out.

    Raises:
        InputError: all that is wrong with the configs, a line each.
        NotReady: an annotation is missing.
    """
    configs = {name: resolution.configs[name] for name in variants}
    courses: dict[str, Sequence[float]] = {}
    wrong: list[str] = []
    for name, found in probe_configs(sweep, project, configs).items():
        wrong += [f"{name}: {problem}" for problem in found.problems]
        if placed is not None and not found.problems:
            problems = data_problems(project, configs[name], found, placed)
            wrong += [f"{name}: {problem}" for problem in problems]
        if found.lr is not None:
            courses[name] = found.lr
        elif found.lr_error:
            say(f"{name}: the lr is not checked against the schedule. {found.lr_error}")
    if wrong:
        raise InputError("\n".join(wrong))
    return courses


def data_problems(
    project: Project,
    config: ResolvedConfig,
    found: ModelProbe,
    placed: DataPlacement,
) -> Iterator[str]:
    """Yield where a model's classes or joints do not fit the annotations it is to be trained on.

    Raises:
        NotReady: an annotation is missing.
    """
    splits = config.facts.get("ann_splits") or {}
    files = config.facts.get("ann_files") or {}
    for loader in [loader for loader in TRAINED_WITH if loader in files]:
        name = files[loader]
        moved = placed_path(config.text, str(name), placed.root)
        named = placed.sets.get(f"{loader}.dataset.ann_file", moved)
        path = project.root / str(named)
        if path.suffix != ".pkl":
            continue  # a list of videos: it has no joints, and its own loader reads its labels
        yield from _against(loader, path, splits.get(loader) or ALL, found, project.cache)


def _against(loader: str, path: Path, split: str, found: ModelProbe, cache: Path) -> Iterator[str]:
    if not path.is_file():
        raise NotReady(
            f"The annotation is missing: {path} ({loader}). Put it there, or say where the data "
            "lies: --set data_root=DIR"
        )
    facts = annotation_facts(path, cache)
    if split not in facts:
        have = ", ".join(name for name in facts if name != ALL) or "none"
        yield f'{loader}: {path} has no split "{split}". It has: {have}.'
        return
    highest, joints = facts[split]["highest_label"], facts[split]["joints"]
    if found.classes is not None and highest >= found.classes:
        yield (
            f"{loader}: {facts[split]['clip']} in {path} has label {highest}, but the head has "
            f"{found.classes} classes (labels 0 to {found.classes - 1}). Set "
            "model.cls_head.num_classes, or use the annotation that belongs to the head."
        )
    if found.joints is not None and joints and joints != [found.joints]:
        yield (
            f"{loader}: {path} has {_words(joints)} joints a person, but the pose pathway is "
            f"built for {found.joints}. Set model.backbone.pose_pathway.in_channels, or use the "
            "annotation that belongs to the model."
        )


def _words(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))
