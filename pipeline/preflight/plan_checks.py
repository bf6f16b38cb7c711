"""Checks of what a sweep asks for: its configs, its starting weights, its data."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.annotation import Annotation, clip_name, joint_form_problem, load_annotation
from pipeline.data.clip_problems import is_empty, joint_problems, label_problems
from pipeline.data.video import VideoError, frames, video_path
from pipeline.errors import InputError, PcanError
from pipeline.job.resolve import probe_configs, rehearse_configs
from pipeline.job.torch_tools import run_tool
from pipeline.plan.project import relative
from pipeline.preflight.finding import CheckContext, CheckFinding, error, note, warning
from pipeline.preflight.launch_checks import checksum_mismatches, missing_checkpoints
from pipeline.preflight.machine_overrides import DATA_ROOT, data_root
from pipeline.preflight.model_probe import (
    DataPlacement,
    batch_limits,
    grouped,
    placed_texts,
    rehearsal_problems,
    store_data,
)
from pipeline.preflight.plan_facts import resolve_and_check
from pipeline.shared.counted import counted
from pipeline.shared.files import shell_word


def check_plan(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that all variants resolve and that their configs can carry out the plan."""
    assert context.sweep is not None
    context.resolution = resolve_and_check(context.sweep, context.project)
    configs = context.resolution.configs
    for name, probe in probe_configs(context.sweep, context.project, configs).items():
        for problem in probe.problems:
            yield error("plan", f"{name}: {problem}")
        for line in probe.notes:
            yield note("plan", f"{name}: {line}")
        if probe.lr_error:
            yield note(
                "plan",
                f"{name}: the lr is not checked against the schedule. {probe.lr_error}",
            )


def check_rehearsal(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that one sample of each loader passes chain, model and evaluator of each variant."""
    if context.resolution is None:
        return
    sweep, project, configs = context.sweep, context.project, context.resolution.configs
    assert sweep is not None
    given = {DATA_ROOT: context.data_root} if context.data_root is not None else {}
    placement = DataPlacement(root=data_root(sweep, project, given), sets={})
    texts = placed_texts(sweep, project, configs, placement)
    data = store_data(sweep, project) if texts else None
    probes, rehearsals = rehearse_configs(sweep, project, configs, texts, data)
    problems = {n: rehearsal_problems(sweep, probes[n], one) for n, one in rehearsals.items()}
    for line in grouped(problems):
        yield error("rehearsal", line)
    limits = {name: batch_limits(sweep, one, 1) for name, one in rehearsals.items()}
    for line in grouped({name: found.certain for name, found in limits.items()}):
        yield error("rehearsal", line)
    for line in grouped({name: found.likely for name, found in limits.items()}):
        yield warning("rehearsal", line)
    for line in grouped({name: one.notes for name, one in rehearsals.items()}):
        yield note("rehearsal", line)


def check_weights(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that the starting weights exist, are safe and finite, and fit the model."""
    sweep, project = context.sweep, context.project
    assert sweep is not None
    for sentence in missing_checkpoints(sweep, project, list(sweep.variants)):
        yield error("weights", sentence)
    for sentence in checksum_mismatches(sweep, project, list(sweep.variants)):
        yield error("weights", sentence)
    starts = {v.warm_start for v in sweep.variants.values() if v.warm_start is not None}
    for start in sorted(starts, key=lambda s: s.checkpoint):
        path = project.root / start.checkpoint
        if not path.is_file():
            continue
        request = {
            "checkpoint": start.checkpoint,
            "config": sweep.config,
            "code_root": sweep.job.code_root,
            "min_matched": start.min_matched,
        }
        answer = run_tool("inspect_checkpoint", request, sweep.job, project.root)
        if not answer["file"]["finite"]:
            yield error("weights", f"{start.checkpoint} holds numbers that are not finite.")
        fit, made = answer["fit"], answer["config"]
        if not fit["would_load"]:
            yield error(
                "weights",
                f"{start.checkpoint}: {fit['matched_share']:.0%} of the model's weights match, "
                f"{start.min_matched:.0%} are wanted (warm_start.min_matched). Look: pcan "
                f"checkpoint inspect {shell_word(start.checkpoint)} --sweep {sweep.name}",
            )
        has = answer["file"]["classes"]
        if has is not None and made["classes"] not in (None, has):
            yield error(
                "weights",
                f"{start.checkpoint}: its head has {counted(has, 'class', 'classes')}, "
                f"the config's model has "
                f"{made['classes']}.",
            )


def check_data(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that the annotations are safe and correct and that the videos exist."""
    sweep, project = context.sweep, context.project
    assert sweep is not None
    if context.resolution is None:
        return
    facts = context.resolution.base
    given = {DATA_ROOT: context.data_root} if context.data_root is not None else {}
    root = data_root(sweep, project, given)
    request = {"config": str(project.root / sweep.config), "data_root": root}
    try:
        loaders = run_tool("data_facts", request, sweep.job, project.root)["loaders"]
    except InputError:
        return  # a data set of another form: its own loader checks it
    files = list(dict.fromkeys(project.root / str(loader["ann_file"]) for loader in loaders))
    missing = [file for file in files if not file.is_file()]
    for file in missing:
        yield error(
            "data",
            f"The annotation is missing: {relative(file, project.root)}. Put it there, or say "
            "where the data lies: --set data_root=DIR",
        )
    annotations: dict[str, Annotation] = {}
    for loader in loaders:
        if project.root / str(loader["ann_file"]) in missing:
            continue
        yield from _loader(loader, project.root, facts.get("num_classes"), annotations)


def _loader(
    loader: Mapping[str, Any], root: Path, classes: int | None, annotations: dict[str, Annotation]
) -> Iterator[CheckFinding]:
    try:
        path = root / str(loader["ann_file"])
        if str(path) not in annotations:
            annotations[str(path)] = load_annotation(path)
        annotation = annotations[str(path)]
        clips = annotation.split(loader["split"])
    except PcanError as problem:
        yield error("data", f"{loader['loader']}: {problem}")
        return
    if not clips:
        yield error("data", f'{loader["loader"]}: split "{loader["split"]}" has no clips.')
    yield from label_findings(clips, classes, str(loader["loader"]))
    yield from joint_findings(clips, str(loader["loader"]))
    yield from _videos(loader, root, clips)


def label_findings(
    clips: list[dict[str, Any]], classes: int | None, where: str
) -> Iterator[CheckFinding]:
    """Yield findings on labels that the model has no class for."""
    for severity, text in label_problems(clips, classes):
        yield CheckFinding(check="data", severity=severity, message=f"{where}: {text}")


def joint_findings(clips: list[dict[str, Any]], where: str) -> Iterator[CheckFinding]:
    """Yield findings on clips whose joints are absent, of another form, or NaN."""
    for severity, problem in joint_problems(clips):
        yield CheckFinding(check="data", severity=severity, message=f"{where}: {problem}")
    forms = [text for c in clips if not is_empty(c) and (text := joint_form_problem(c))]
    if forms:
        yield error(
            "data",
            f"{where}: {counted(len(forms), 'clip has', 'clips have')} joints of a "
            f"wrong form: {forms[0]}.",
        )


def _videos(
    loader: Mapping[str, Any], root: Path, clips: list[dict[str, Any]]
) -> Iterator[CheckFinding]:
    folder = str(root / str(loader["videos"]))
    paths = [video_path(folder, clip_name(clip)) for clip in clips]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        yield error(
            "data",
            f"{loader['loader']}: {len(missing)} of {len(paths)} videos are missing, first: "
            f"{missing[0]}. Put them there, or say where the data lies: --set data_root=DIR",
        )
    present = [path for path in paths if path.is_file()]
    for path in dict.fromkeys([*present[:1], *present[-1:]]):
        try:
            if not list(itertools.islice(frames(path), 1)):
                yield error("data", f"{path} has no frames. Get it again.")
        except (VideoError, ImportError) as problem:
            yield error("data", f"{problem}. Get that video again.")
