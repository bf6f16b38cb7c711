"""Checks of what a sweep asks for: its configs, its starting weights, its data."""

import dataclasses
import itertools
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.data.annotation import (
    Annotation,
    clip_name,
    joint_form_problem,
    load_annotation,
    why_empty,
)
from pipeline.data.clip_problems import is_empty, joint_problems, label_problems
from pipeline.data.video import VideoError, frames, video_path
from pipeline.errors import NotReady, PcanError
from pipeline.job.gpus import choose, list_gpus
from pipeline.job.resolve import (
    ModelProbe,
    RehearsalResult,
    probe_configs,
    rehearse_configs,
)
from pipeline.job.slots import Slot, cpu_slots, gpu_slots
from pipeline.job.torch_tools import run_tool
from pipeline.plan.project import relative
from pipeline.plan.sweep import WarmStart
from pipeline.preflight.finding import CheckContext, CheckFinding, error, note, warning
from pipeline.preflight.launch_checks import (
    checksum_mismatches,
    missing_checkpoints,
    refuse_float16,
)
from pipeline.preflight.machine_overrides import data_root
from pipeline.preflight.memory_check import device_memory, held_memory
from pipeline.preflight.model_probe import (
    DataPlacement,
    MissingAnnotation,
    batch_limits,
    grouped,
    memory_limits,
    missing_annotations,
    placed_texts,
    rehearsal_problems,
    store_data,
    unnamed_splits,
)
from pipeline.preflight.plan_facts import resolve_and_check
from pipeline.preflight.variant_data import LoaderUse, VariantData
from pipeline.shared.counted import counted
from pipeline.shared.files import shell_word


def check_plan(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that all variants resolve and that their configs can carry out the plan."""
    assert context.sweep is not None
    context.resolution = resolve_and_check(context.sweep, context.project)
    try:
        context.rehearsed = _rehearse(context)
        probes = context.rehearsed[0]
    except PcanError:  # `check_rehearsal` says why
        probes = probe_configs(context.sweep, context.project, context.resolution.configs)
    for line in grouped({name: probe.problems for name, probe in probes.items()}):
        yield error("plan", line)
    for line in grouped({name: probe.notes for name, probe in probes.items()}):
        yield note("plan", line)
    unknown = {name: [one.lr_error] for name, one in probes.items() if one.lr_error}
    for line in grouped(unknown):
        yield note("plan", f"{line.rstrip('.')}. The lr is not checked against the schedule.")
    on_cpu = context.device == "cpu" or not list_gpus()
    try:
        device = "cpu" if on_cpu else "cuda"
        refuse_float16(context.sweep, context.resolution.configs, device)
    except NotReady as refusal:
        # Jobs of a scheduler, started from a machine without GPUs, run on others.
        yield (error if context.device == "cpu" else warning)("plan", str(refusal))


def _rehearse(
    context: CheckContext,
) -> tuple[dict[str, ModelProbe], dict[str, RehearsalResult]]:
    """Return what each variant would do, all from one child: most of its time are its imports.

    Raises:
        PcanError: the data cannot be placed, or the child did not survive them.
    """
    sweep, project, resolution = context.sweep, context.project, context.resolution
    assert sweep is not None and resolution is not None
    placement = DataPlacement(root=data_root(sweep, project, context.sets), sets=context.sets)
    texts = placed_texts(sweep, project, resolution.configs, placement)
    data = store_data(sweep, project) if texts else None
    with held_memory(_slots(context), sweep.job.gpus) as memory:
        asked = memory.question(always=True) if memory is not None else None
        return rehearse_configs(sweep, project, resolution.configs, texts, data, memory=asked)


def check_rehearsal(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that one sample of each loader passes chain, model and evaluator of each variant."""
    sweep = context.sweep
    if context.resolution is None or sweep is None:
        return
    probes, rehearsals = context.rehearsed or _rehearse(context)
    configs = context.resolution.configs
    memory = device_memory(_slots(context), sweep.job.gpus)
    problems = {n: rehearsal_problems(sweep, n, probes[n], one) for n, one in rehearsals.items()}
    for line in grouped(problems):
        yield error("rehearsal", line)
    for line in grouped({name: one.labels for name, one in rehearsals.items()}):
        yield warning("label_mismatch", line)
    limits = {name: batch_limits(sweep, one, 1) for name, one in rehearsals.items()}
    if memory is not None:
        takes = {n: memory_limits(sweep, configs[n], r, memory) for n, r in rehearsals.items()}
        limits = {name: found.beside(takes[name]) for name, found in limits.items()}
    for line in grouped({name: found.certain for name, found in limits.items()}):
        yield error("rehearsal", line)
    for line in grouped({name: found.likely for name, found in limits.items()}):
        yield warning("rehearsal", line)
    for line in grouped({name: one.notes for name, one in rehearsals.items()}):
        yield note("rehearsal", line)


def _slots(context: CheckContext) -> list[Slot]:
    """Return where one job would run: on free GPUs, on the CPU of a machine without any."""
    assert context.sweep is not None
    gpus = list_gpus() if context.device != "cpu" else []
    if not gpus:
        return cpu_slots(1)
    allowed = choose(gpus, context.gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    free = [gpu for gpu in allowed if not gpu.in_use]
    ranks = context.sweep.job.gpus
    return gpu_slots(free, ranks, 1) if len(free) >= ranks else []


def check_weights(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that the starting weights exist, are safe and finite, and fit the model."""
    sweep, project = context.sweep, context.project
    assert sweep is not None
    for sentence in missing_checkpoints(sweep, project, list(sweep.variants)):
        yield error("weights", sentence)
    for sentence in checksum_mismatches(sweep, project, list(sweep.variants)):
        yield error("weights", sentence)
    for start, names, text in _warm_models(context):
        yield from _fit(context, start, names, text)


def _warm_models(
    context: CheckContext,
) -> Iterator[tuple[WarmStart, tuple[str, ...], str | None]]:
    """Yield each model that starts from a checkpoint once: start, variants, its config's text.

    The text is None where the variants could not be resolved; the base config stands for them.
    """
    sweep = context.sweep
    assert sweep is not None
    configs = context.resolution.configs if context.resolution is not None else {}
    found: dict[tuple[WarmStart, str], tuple[list[str], str | None]] = {}
    for name, variant in sweep.variants.items():
        start = variant.warm_start
        file = start.file(context.project.root) if start is not None else None
        if start is None or file is None or not file.is_file():
            continue
        text = configs[name].text if name in configs else None
        model = re.search(r"^model = .*?(?=^\w+ = |\Z)", text or "", re.M | re.S)
        key = start, model.group() if model is not None else ""
        found.setdefault(key, ([], text))[0].append(name)
    for (start, _), (names, text) in found.items():
        yield start, tuple(names), text


def _fit(
    context: CheckContext, start: WarmStart, names: tuple[str, ...], text: str | None
) -> Iterator[CheckFinding]:
    """Check one checkpoint against the model of the variants that start from it."""
    sweep, project = context.sweep, context.project
    assert sweep is not None
    warm = [n for n, v in sweep.variants.items() if v.warm_start is not None]
    owners = "" if len(names) == len(warm) else f"{', '.join(names)}: "
    with tempfile.TemporaryDirectory() as folder:
        base = sweep.config_of(names[0])
        config = project.root / base
        if text is not None:
            config = Path(folder) / "config.py"
            config.write_text(text)
        request = {
            "checkpoint": start.checkpoint,
            "config": str(config) if text is not None else base,
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
            f"{owners}{start.checkpoint}: {fit['matched_share']:.0%} of the model's weights "
            f"match, {start.min_matched:.0%} are wanted (warm_start.min_matched). Look: pcan "
            f"checkpoint inspect {shell_word(str(start.checkpoint))} --sweep {sweep.name}",
        )
    has = answer["file"]["classes"]
    if has is not None and made["classes"] not in (None, has):
        heads = (
            f"{owners}{start.checkpoint}: its head has {counted(has, 'class', 'classes')}, "
            f"the config's model has {made['classes']}"
        )
        if start.expect is not None:
            yield error("weights", f"{heads}, so that warm_start.expect cannot be reached.")
        else:
            yield note("weights", f"{heads}; its classifier begins with random weights.")


def check_data(context: CheckContext) -> Iterator[CheckFinding]:
    """Check, for every variant, that the annotations are safe and correct and the videos exist."""
    if context.resolution is None:
        return
    assert context.sweep is not None
    data = VariantData(context.sweep, context.project, context.sets)
    uses, root = data.loaders(), context.project.root
    files = list(dict.fromkeys(root / str(use.facts["ann_file"]) for use in uses))
    missing = [file for file in files if not file.is_file()]
    yield from _missing_annotations(context, data)
    unnamed = {
        name: unnamed_splits(context.project, config, data.root, context.sets)
        for name, config in data.configs.items()
    }
    for line in grouped(unnamed):
        yield error("data", line)
    annotations: dict[str, Annotation] = {}
    for use in uses:
        if root / str(use.facts["ann_file"]) in missing:
            continue
        for found in _loader(use, root, annotations, data.hint):
            yield dataclasses.replace(found, message=f"{data.owners(use)}{found.message}")


def _missing_annotations(context: CheckContext, data: VariantData) -> Iterator[CheckFinding]:
    """Yield the annotations of all variants that are not there, each once."""
    lacking: dict[tuple[Path | None, str], tuple[MissingAnnotation, list[str]]] = {}
    for name, config in data.configs.items():
        for lack in missing_annotations(context.project, config, data.root, context.sets):
            place = lack.path, lack.loader if lack.path is None else ""
            lacking.setdefault(place, (lack, []))[1].append(name)
    for (path, _), (lack, names) in lacking.items():
        owners = "" if set(names) == set(data.configs) else f"{', '.join(dict.fromkeys(names))}: "
        shown = (
            relative(path, context.project.root) if path is not None else "its ann_file is empty"
        )
        shown = f"{shown} ({lack.loader})"
        if lack.certain:
            yield error("data", f"{owners}The annotation is missing: {shown}. {lack.hint}")
        else:
            yield warning(
                "data",
                f"{owners}{shown} is not there; a job fails if the project's own data set reads "
                f"it as a file. {lack.hint}",
            )


def _loader(
    use: LoaderUse, root: Path, annotations: dict[str, Annotation], hint: str
) -> Iterator[CheckFinding]:
    loader, classes = use.facts, use.classes
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
        why = why_empty(annotation, loader["split"])
        yield error("data", f'{loader["loader"]}: split "{loader["split"]}" has no clips: {why}.')
    yield from label_findings(clips, classes, str(loader["loader"]))
    yield from joint_findings(clips, str(loader["loader"]))
    yield from _videos(loader, root, clips, hint)


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
    loader: Mapping[str, Any], root: Path, clips: list[dict[str, Any]], hint: str
) -> Iterator[CheckFinding]:
    folder = str(root / str(loader["videos"]))
    paths = [video_path(folder, clip_name(clip)) for clip in clips]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        yield error(
            "data",
            f"{loader['loader']}: {len(missing)} of {len(paths)} videos are missing, first: "
            f"{missing[0]}. {hint.replace('Put it', 'Put them', 1)}",
        )
    present = [path for path in paths if path.is_file()]
    for path in dict.fromkeys([*present[:1], *present[-1:]]):
        try:
            if not list(itertools.islice(frames(path), 1)):
                yield error("data", f"{path} has no frames. Get it again.")
        except (VideoError, ImportError) as problem:
            yield error("data", f"{problem}. Get that video again.")
