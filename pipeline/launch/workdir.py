"""Write a trial's run directory for a start of its job, and take it over from other owners."""

import dataclasses
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import NotReady, StorageError
from pipeline.job.resolve import ResolvedConfig, resolve
from pipeline.job.slots import Slot
from pipeline.launch.context import LaunchContext
from pipeline.launch.resume_checkpoint import checkpoint_to_resume
from pipeline.launch.search_rule import averaged_checks
from pipeline.launch.start_facts import run_with, start_line
from pipeline.launch.starting_weights import StageStart, stage_start, warm_start_record
from pipeline.launch.trial_lease import TrialLease
from pipeline.plan.project import Project, relative
from pipeline.plan.search.space import moved_with_lr
from pipeline.plan.sweep import Sweep
from pipeline.preflight.machine_overrides import DATA_ROOT, apply_data_root
from pipeline.shared.counted import counted
from pipeline.shared.files import (
    FormatError,
    append_line,
    make_private,
    timestamp,
    write_json,
    write_text,
)
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import USUAL_PRECISION, TrialSpec
from pipeline.shared.states import Phase
from pipeline.study.lease import Lease
from pipeline.study.owner import shown_host, this_host
from pipeline.study.trial_rows import study_name

#: How long an owner on another host may take to see that it was replaced.
TAKEOVER_WAIT_S = 3.0
#: Longest time the job waits after an epoch for its verdict.
JUDGE_WAIT_S = 10

#: Settings of `job.speed` that are part of the config.
IN_RECIPE = ("amp", "tf32")
#: Of a trial's spec, what the storage keeps as well.
_STORED = (
    *("epochs", "seed", "data", "wandb", "device", "nproc"),
    *("continues", "confirms", "imported", "search", "read", "stage", "precision"),
)


def run_dir(project: Project, sweep: str, variant: str, number: int | str) -> RunDir:
    """Return a trial's run directory."""
    return RunDir(project.runs / sweep / variant / str(number))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialConfigs:
    """A trial's config without facts of the machine (`pure`), and as it is run here."""

    pure: ResolvedConfig
    placed: ResolvedConfig


def write_workdir(context: LaunchContext, lease: TrialLease, slot: Slot, attempt: int) -> RunDir:
    """Make the run directory of a claimed trial ready for a start of its job.

    A trial keeps the recipe it was first started with: where the sweep file or the base config
    has changed since, the recorded config is run again.

    Returns:
        The run directory; `spec.json` and `config.py` are written, requests of an earlier
        start are gone.

    Raises:
        StorageError: the folder belongs to a trial that this storage does not know.
        NotReady: its checkpoints are gone, or of another number of ranks.
    """
    project, sweep = context.project, context.sweep
    checks, stage = averaged_checks(context, lease), _stage(context, lease)
    configs = _trial_configs(context, lease)
    rundir = run_dir(project, sweep.name, lease.variant, lease.number)
    _private(project.runs, rundir.checkpoints)
    check_ownership(project, rundir, lease)
    before = rundir.read_spec()
    resume = checkpoint_to_resume(project, rundir, lease, sweep.job.gpus)
    kept = before is not None and before.config_hash not in (None, configs.pure.hash)
    text = rundir.config.read_text() if kept else configs.placed.text
    text = apply_data_root(text, context.data_root)
    for request in (rundir.stop, rundir.judged, rundir.outcome, rundir.progress):
        request.unlink(missing_ok=True)
    write_text(rundir.config, text)
    spec = _first_spec(context, lease, configs.pure, slot, checks, stage)
    spec = dataclasses.replace(
        _carry_over(spec, before, kept) if before is not None else spec,
        attempt=attempt,
        epochs=epochs_of(text),
        resume=relative(resume, rundir.root) if resume else None,
        **run_with(project, sweep, rundir, configs.placed, slot, context.data_root),
    )
    write_json(rundir.spec, spec.to_json())
    append_line(rundir.starts, json.dumps(start_line(spec)))
    return rundir


def _stage(context: LaunchContext, lease: TrialLease) -> StageStart | None:
    """Return what a trial of a later stage starts from; one that goes on keeps what it had."""
    rundir = run_dir(context.project, context.sweep.name, lease.variant, lease.number)
    before = rundir.read_spec()
    return None if before is not None and before.stage else stage_start(context, lease)


def _trial_configs(context: LaunchContext, lease: TrialLease) -> TrialConfigs:
    """Resolve a trial's config, with and without this machine's facts."""
    variant = context.sweep.variants[lease.variant]
    machine = {key: value for key, value in context.sets.items() if key != DATA_ROOT}
    drawn = lease.params if lease.searched else {}
    if not drawn and not machine:
        pure = context.resolution.configs[lease.variant]
        return TrialConfigs(pure=pure, placed=pure)
    recipe = {**variant.set, **drawn, **_coupled_rates(context, lease.variant, drawn)}
    sets = {"pure": recipe, "placed": {**recipe, **machine}}
    found = resolve(
        context.sweep,
        context.project,
        sets,
        given=tuple(machine),
        speed=context.sweep.job.speed.named(),
        variant=lease.variant,
    )
    configs = found.configs
    return TrialConfigs(pure=configs["pure"], placed=configs["placed"])


def _coupled_rates(
    context: LaunchContext, variant: str, values: Mapping[str, Any]
) -> dict[str, float]:
    """Return the scheduler's rates that move with a drawn lr, by config path."""
    if not context.sweep.search.couple:
        return {}
    facts = context.resolution.configs[variant].facts
    return moved_with_lr(facts.get("param_scheduler"), facts.get("lr"), values)


def _first_spec(
    context: LaunchContext,
    lease: TrialLease,
    pure: ResolvedConfig,
    slot: Slot,
    checks: Sequence[int],
    stage: StageStart | None,
) -> TrialSpec:
    """Return the specification of a trial that has not been started before.

    Args:
        checks: epochs after which averaged weights are read.
    """
    sweep = context.sweep
    named = {*context.sets, *sweep.variants[lease.variant].set, *lease.params}
    return TrialSpec(
        **_planned(sweep, lease.variant),
        number=lease.number,
        trial=lease.uid,
        search=lease.facts.get("search"),
        read=lease.facts.get("read"),
        averaged_checks=list(checks),
        values=dict(lease.params),
        overrides=overrides_of(pure),
        config_hash=pure.hash,
        recipe_hash=lease.recipe_hash,
        device=slot.device,
        warm_start=warm_start_record(context.project, sweep, lease.variant, stage),
        stage=dict(stage.facts) if stage is not None else None,
        judge_wait_s=JUDGE_WAIT_S,
        wandb={"id": wandb_id(lease.uid, lease.number), **context.tracking},
        created=timestamp(),
        loading={"slots": max(1, len(context.slots)), "named": sorted(named)},
        precision=recorded_precision(pure.facts.get("precision")),
    )


def _planned(sweep: Sweep, name: str) -> dict[str, Any]:
    """Return the fields of a specification that the sweep file alone decides."""
    variant = sweep.variants[name]
    return {
        "sweep": sweep.name,
        "variant": name,
        "study": study_name(sweep, name),
        "plan": variant.plan,
        "metric": sweep.metric_of(name),
        "branches": sweep.branches_of(name),
        "goal": sweep.objective.goal,
        "best_known": sweep.objective.best_known,
        "seed": variant.seed,
        "nproc": sweep.job.gpus,
        "gates": [gate.record() for gate in variant.gates],
        "bands": [band.model_dump() for band in variant.bands],
        "speed": sweep.job.speed.used() or None,
    }


def _carry_over(spec: TrialSpec, before: TrialSpec, kept: bool) -> TrialSpec:
    """Return the specification of a trial that goes on, with what stays as it was at first.

    Args:
        kept: the config that was recorded at first is run again.
    """
    return dataclasses.replace(
        spec,
        continues=before.continues,
        confirms=before.confirms,
        overrides=before.overrides if kept else spec.overrides,
        config_hash=before.config_hash if kept else spec.config_hash,
        precision=before.precision if kept else spec.precision,
        speed=_carried_speed(spec, before) if kept else spec.speed,
        seed=before.seed if before.seed is not None else spec.seed,
        created=before.created or spec.created,
        others=before.others,
        warm_start=before.warm_start if before.stage else spec.warm_start,
        stage=before.stage or spec.stage,
    )


def recorded_precision(precision: str | None) -> str | None:
    """Return a config's precision as a specification holds it: the usual one is left out."""
    return None if precision == USUAL_PRECISION else precision


def _carried_speed(spec: TrialSpec, before: TrialSpec) -> dict[str, Any] | None:
    """Return the settings of a start whose recorded config is run again: that has its own."""
    now, then = spec.speed or {}, before.speed or {}
    kept = {key: value for key, value in then.items() if key in IN_RECIPE}
    return {**{k: v for k, v in now.items() if k not in IN_RECIPE}, **kept} or None


def spec_facts(spec: TrialSpec) -> dict[str, Any]:
    """Return what the storage keeps of a trial's specification."""
    record = spec.to_json()
    return {key: record[key] for key in _STORED if record.get(key) not in (None, {})}


def take_ownership(project: Project, rundir: RunDir, lease: Lease) -> None:
    """Record this lease as the owner of the run directory.

    A launcher that had the trial before, and still lives, reads that and ends its job.
    """
    _private(project.runs, rundir.root)
    write_json(rundir.owner, {"token": lease.token, "host": shown_host(this_host())})
    before = lease.previous
    if before["phase"] == Phase.RUNNING and before["host"] != this_host():
        time.sleep(TAKEOVER_WAIT_S)


def wandb_id(uid: str, number: int | str) -> str:
    """Return the id of a trial's W&B run."""
    return f"{uid[:12]}-{number}"


def overrides_of(config: ResolvedConfig) -> dict[str, Any]:
    """Return what a config changes on the base config, by path."""
    return {change.path: change.new for change in config.changes}


def epochs_of(config_text: str) -> int:
    """Return max_epochs of a resolved config."""
    match = re.search(r"\bmax_epochs=(\d+)", config_text)
    return int(match.group(1)) if match else 0


def _private(top: Path, folder: Path) -> None:
    """Make a folder and those above it, up to `top`, for this user only.

    Raises:
        NotReady: one of them leads out of `top`, where nothing of a trial may be written.
    """
    out = escaping_symlink(top, folder)
    if out is not None:
        raise NotReady(
            f"{out} is a link to {out.resolve()}, outside of {top}. A trial's files stay below; "
            f"only {top.name} itself may be a link. Remove this one, then launch again."
        )
    for each in (*_above(top, folder), folder):
        make_private(each)


def escaping_symlink(top: Path, folder: Path) -> Path | None:
    """Return the first folder below `top`, down to `folder`, that is a link out of it."""
    real = top.resolve()
    below = [f for f in (*_above(top, folder), folder) if f != top and f.is_symlink()]
    return next((f for f in below if not f.resolve().is_relative_to(real)), None)


def _above(top: Path, folder: Path) -> list[Path]:
    return [f for f in reversed(folder.parents) if f.is_relative_to(top)]


def check_ownership(project: Project, rundir: RunDir, lease: TrialLease) -> None:
    """Refuse a run directory that belongs to a trial of another storage.

    Raises:
        StorageError: with what to do about it.
    """
    try:
        spec = rundir.read_spec()
    except FormatError as error:
        raise StorageError(str(error)) from None
    if spec is None or spec.trial == lease.uid:
        return
    epochs = len(rundir.read_measurements())
    raise StorageError(
        f"{relative(rundir.root, project.root)} holds "
        f"{counted(epochs, 'epoch')} of a trial that this "
        "storage does not know. Add it to this storage: pcan doctor --rebuild. Or move that "
        "folder away and start again."
    )
