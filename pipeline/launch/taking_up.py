"""From a claimed trial to one whose job can be started: its folder, its config, its past."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.job.ended import Outcome
from pipeline.job.files import read_json
from pipeline.job.slots import Slot
from pipeline.launch.attempt import Attempt
from pipeline.launch.context import Context
from pipeline.launch.endings import settled
from pipeline.launch.engine import Inside
from pipeline.launch.notify import Notice
from pipeline.launch.prepare import hold, prepare, refuse_stranger, run_dir, set_aside
from pipeline.launch.retry import spoiled
from pipeline.launch.searching import lost_checkpoint
from pipeline.study.board import TrialRow
from pipeline.study.lease import Lease

#: Of a trial's spec, what the storage keeps as well.
FACTS = (
    *("epochs", "seed", "data", "wandb", "device", "nproc"),
    *("continues", "confirms", "imported", "search"),
)


def take_up(
    now: Callable[[], Context],
    lease: Lease,
    slot: Slot,
    rows: Sequence[TrialRow],
    say: Callable[[str], None],
    notice: Notice,
    inside: Inside | None = None,
) -> tuple[Attempt, Outcome | None]:
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
    refuse_stranger(context.project, rundir, lease)
    hold(context.project, rundir, lease)
    earlier = read_json(rundir.outcome)
    refused = spoiled(rundir, earlier)
    if refused is not None:
        set_aside(rundir, refused)
        earlier = None
    lost = lost_checkpoint(lease, rundir)
    if lost is not None:
        rundir.checkpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif earlier is None or earlier.get("state") is None:
        make_ready(context, lease, slot, lease.attempt)
    spec = read_json(rundir.spec) or {}
    tried = [row.variant for row in rows if row.attempt > 0] + [lease.variant]
    # The ladder asks nothing of a repetition, nor of a trial of a search.
    alone = bool(spec.get("confirms") or spec.get("search"))
    attempt = Attempt(
        lease,
        rundir,
        lambda: now().rules(lease, rundir),
        slot,
        epochs=int(spec.get("epochs") or 0),
        grace_s=context.sweep.job.stop_grace_s,
        next_of=lambda verdict: None if alone else now().next_of(verdict, tried),
        say=say,
        notice=notice,
    )
    facts = {key: spec[key] for key in FACTS if spec.get(key) is not None}
    if lost is not None:  # perhaps with its whole folder
        facts = {**(lease.previous.get("facts") or {}), **facts}
    if inside is not None:
        facts["job"] = inside.record()
    lease.begin(str(rundir.root.relative_to(context.project.root)), slot.shown, facts)
    return attempt, settled(attempt, earlier) if lost is None else lost


def make_ready(context: Context, lease: Any, slot: Slot, number: int) -> None:
    """Write the run directory for the start with this number."""
    configs, place = context.configs(lease), context.place(slot)
    prepare(context.project, context.sweep, lease, configs, place, number)


def told_taken_up(lease: Lease) -> str | None:
    """Return a line on a trial whose launcher has died, None for any other."""
    if lease.previous["phase"] != "running":
        return None
    gone = f"its launcher (pid {lease.previous['pid']}) is gone"
    return f"{lease.name}: {gone}; it is taken up again as the same trial."
