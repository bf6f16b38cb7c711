"""From a claimed trial to one whose job can be started: its folder, its config, its past."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.job.exit_cause import Outcome
from pipeline.job.slots import Slot
from pipeline.launch.completion import outcome_of_earlier_start
from pipeline.launch.context import LaunchContext
from pipeline.launch.enclosing_job import EnclosingJob
from pipeline.launch.notify import Notice
from pipeline.launch.retry_policy import rejected_checkpoint
from pipeline.launch.search import lost_checkpoint
from pipeline.launch.trial_runner import TrialRunner
from pipeline.launch.workdir import (
    check_ownership,
    prepare,
    quarantine_checkpoint,
    run_dir,
    take_ownership,
)
from pipeline.shared.files import read_json
from pipeline.shared.spec import TrialSpec
from pipeline.study.lease import Lease
from pipeline.study.trial_rows import TrialRow

#: Of a trial's spec, what the storage keeps as well.
FACTS = (
    *("epochs", "seed", "data", "wandb", "device", "nproc"),
    *("continues", "confirms", "imported", "search"),
)


def open_trial(
    now: Callable[[], LaunchContext],
    lease: Lease,
    slot: Slot,
    rows: Sequence[TrialRow],
    say: Callable[[str], None],
    notice: Notice,
    inside: EnclosingJob | None = None,
) -> tuple[TrialRunner, Outcome | None]:
    """Make a claimed trial ready to start.

    Args:
        now: the launch's context, asked for anew at each verdict: the plan may change.
        rows: the sweep's trials; those that were started are not started again by the ladder.
        inside: the scheduler's job that this launch runs in.

    Returns:
        The trial, and how it ended if earlier attempts settled that.
    """
    context = now()
    rundir = run_dir(context.project, context.sweep.name, lease.variant, lease.number)
    check_ownership(context.project, rundir, lease)
    take_ownership(context.project, rundir, lease)
    earlier = read_json(rundir.outcome)
    refused = rejected_checkpoint(rundir, earlier)
    if refused is not None:
        quarantine_checkpoint(rundir, refused)
        earlier = None
    lost = lost_checkpoint(lease, rundir)
    if lost is not None:
        rundir.checkpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif earlier is None or earlier.get("state") is None:
        write_workdir(context, lease, slot, lease.attempt)
    spec = rundir.read_spec() or TrialSpec()
    tried = [row.variant for row in rows if row.attempt > 0] + [lease.variant]
    # The ladder asks nothing of a repetition, nor of a trial of a search.
    alone = bool(spec.confirms or spec.search)
    attempt = TrialRunner(
        lease,
        rundir,
        lambda: now().rules(lease, rundir),
        slot,
        epochs=spec.epochs or 0,
        grace_s=context.sweep.job.stop_grace_s,
        next_of=lambda verdict: None if alone else now().fallback_for(verdict, tried),
        say=say,
        notice=notice,
    )
    facts = spec_facts(spec)
    if lost is not None:  # perhaps with its whole folder
        facts = {**(lease.previous.get("facts") or {}), **facts}
    if inside is not None:
        facts["job"] = inside.record()
    lease.begin(str(rundir.root.relative_to(context.project.root)), slot.shown, facts)
    return attempt, outcome_of_earlier_start(attempt, earlier) if lost is None else lost


def spec_facts(spec: TrialSpec) -> dict[str, Any]:
    """Return what the storage keeps of a trial's specification."""
    record = spec.to_json()
    return {key: record[key] for key in FACTS if record.get(key) not in (None, {})}


def write_workdir(context: LaunchContext, lease: Any, slot: Slot, number: int) -> None:
    """Write the run directory for the start with this number."""
    configs, place = context.configs(lease), context.place(slot)
    prepare(context.project, context.sweep, lease, configs, place, number)


def takeover_message(lease: Lease) -> str | None:
    """Return a line on a trial whose launcher has died, None for any other."""
    if lease.previous["phase"] != "running":
        return None
    gone = f"its launcher (pid {lease.previous['pid']}) is gone"
    return f"{lease.name}: {gone}; it is taken up again as the same trial."
