"""The weights a trial starts from: a file, or the best checkpoint of an earlier stage.

The file may be made by the sweep itself (`warm_start.make`): a variant of its own trains it, and
its best weights are written where the other variants look for them.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import NotReady
from pipeline.job.torch_tools import run_tool
from pipeline.launch.context import LaunchContext, Schedule
from pipeline.launch.trial_lease import TrialLease
from pipeline.plan.ladder import retry_command
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import State
from pipeline.study.register import register_all
from pipeline.study.stages import Stages
from pipeline.study.trial_rows import TrialRow, recipe_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageStart:
    """The trial that a later stage starts from.

    Args:
        facts: what its record keeps of that trial; see `TrialSpec.stage`.
    """

    checkpoint: Path
    facts: Mapping[str, Any]


def stage_start(context: LaunchContext, lease: TrialLease) -> StageStart | None:
    """Return what a claimed trial of a later stage starts from, None for any other trial.

    Raises:
        NotReady: there is no such trial, or its checkpoint is not here.
    """
    earlier = context.sweep.variants[lease.variant].starts_from
    if earlier is None:
        return None
    if context.storage is None:
        raise NotReady(
            f"{lease.variant} starts from the best trial of {earlier}, and pcan train has no "
            f"trials to choose from. Run it in the sweep: "
            f"{retry_command(context.sweep.name, lease.variant)}"
        )
    stages = Stages(context.sweep, context.rows(), context.resolution.hashes)
    row = stages.chosen(lease.variant, lease.recipe_hash)
    if row is None:
        raise NotReady(stages.waiting()[lease.variant])
    file = best_checkpoint(context.project, context.sweep, row)
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    facts = {
        "of": earlier,
        "trial": row.name,
        "uid": row.uid,
        "epoch": row.best_epoch,
        "top1": row.best_top1,
        "sha256": digest,
    }
    return StageStart(checkpoint=file, facts=facts)


def register_stages(
    context: LaunchContext, wanted: Schedule, rows: list[TrialRow], note: Callable[[str], None]
) -> list[TrialRow]:
    """Enqueue the recipe of each wanted stage that has its weights now; return all trials.

    Args:
        note: takes what each starts from, and which of its earlier trials are old.
    """
    sweep = context.sweep
    stages = Stages(sweep, rows, context.resolution.hashes)
    begun = {
        request.variant: start
        for request in wanted.requests
        if recipe_row(rows, request.variant, request.recipe_hash) is None
        and (start := stages.start_of(request.variant)) is not None
    }
    if not begun:
        return rows
    lines = stages.old_of(begun)
    register_all(sweep, context.study_storage, context.resolution.hashes)
    for name, start in begun.items():
        top1 = percent(start.best_top1 or 0.0)
        lines.append(f"{name} starts from {start.name} ({top1} at epoch {start.best_epoch}).")
    for line in lines:
        note(line)
    return context.rows()


def publish_made_weights(
    sweep: Sweep, project: Project, rows: Sequence[TrialRow], variants: Sequence[str]
) -> list[str]:
    """Write the weights that `warm_start.make` variants have trained to where they are read.

    Returns:
        One line for each file written.
    """
    lines = []
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is None or start.make is None or start.checkpoint is None:
            continue
        target = project.root / start.checkpoint
        done = [r for r in rows if r.variant == start.make and r.state == State.COMPLETE]
        if not done or target.is_file():
            continue
        source = best_checkpoint(project, sweep, done[-1])
        target.parent.mkdir(parents=True, exist_ok=True)
        request = {"checkpoint": str(source), "out": str(target)}
        run_tool("export_weights", request, sweep.job, project.root)
        top1 = 100 * (done[-1].best_top1 or 0.0)
        lines.append(
            f"Starting weights: {relative(target, project.root)}, from {done[-1].name} "
            f"({top1:.2f} % at epoch {done[-1].best_epoch})"
        )
    return lines


def best_checkpoint(project: Project, sweep: Sweep, row: TrialRow) -> Path:
    """Return the best checkpoint of a complete trial that others start from.

    Raises:
        NotReady: it is gone, or lies on another host.
    """
    rundir = RunDir(project.root / str(row.run_dir))
    name = (read_json(rundir.outcome) or {}).get("checkpoint")
    if name is not None and (rundir.root / name).is_file():
        return rundir.root / str(name)
    host = row.remote_host(project.root)
    if host is not None:
        raise NotReady(
            f"{row.name}, whose weights others start from, lies on {host}. Launch there, or let "
            "both hosts see one project folder."
        )
    raise NotReady(
        f"{row.name} made the starting weights, but its best checkpoint is gone from "
        f"{relative(rundir.checkpoints, project.root)}. Put it back, or train it again with "
        f"another seed in {sweep.shown_path}: {retry_command(sweep.name, row.variant)}"
    )


def warm_start_record(
    project: Project, sweep: Sweep, variant: str, stage: StageStart | None
) -> dict[str, Any] | None:
    """Return what a trial's specification says of its starting weights, None without any."""
    start = sweep.variants[variant].warm_start
    if start is None:
        return None
    file = stage.checkpoint if stage is not None else start.file(project.root)
    return {**start.model_dump(exclude={"best_of"}), "checkpoint": str(file)}
