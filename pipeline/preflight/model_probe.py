"""Before the first trial: build each config's model once and compare it with its data."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.labels import ALL, annotation_facts
from pipeline.errors import InputError, NotReady
from pipeline.job.resolve import ModelProbe, Resolution, ResolvedConfig, placed_path, probe_configs
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep

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
) -> dict[str, Sequence[float]]:
    """Refuse configs that no job could train; return each variant's true lr course.

    Takes seconds the first time and nothing while configs and annotations do not change.

    Args:
        say: prints one line.
        placed: where the data lies; None to skip the data.

    Raises:
        InputError: all that is wrong with the configs, a line each.
        NotReady: an annotation is missing.
    """
    configs = {name: resolution.configs[name] for name in variants}
    courses: dict[str, Sequence[float]] = {}
    problems: list[str] = []
    for name, probe in probe_configs(sweep, project, configs).items():
        problems += [f"{name}: {problem}" for problem in probe.problems]
        if placed is not None and not probe.problems:
            found = data_problems(project, configs[name], probe, placed)
            problems += [f"{name}: {problem}" for problem in found]
        if probe.lr is not None:
            courses[name] = probe.lr
        elif probe.lr_error:
            say(f"{name}: the lr is not checked against the schedule. {probe.lr_error}")
    if problems:
        raise InputError("\n".join(problems))
    return courses


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
    splits = config.facts.get("ann_splits") or {}
    files = config.facts.get("ann_files") or {}
    for loader in [loader for loader in TRAINED_WITH if loader in files]:
        name = files[loader]
        moved = placed_path(config.text, str(name), placed.root)
        named = placed.sets.get(f"{loader}.dataset.ann_file", moved)
        path = project.root / str(named)
        if path.suffix != ".pkl":
            continue  # a list of videos: it has no joints, and its own loader reads its labels
        yield from _against(loader, path, splits.get(loader) or ALL, probe, project.cache)


def _against(loader: str, path: Path, split: str, probe: ModelProbe, cache: Path) -> Iterator[str]:
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
    if probe.classes is not None and highest >= probe.classes:
        yield (
            f"{loader}: {facts[split]['clip']} in {path} has label {highest}, but the head has "
            f"{probe.classes} classes (labels 0 to {probe.classes - 1}). Set "
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
