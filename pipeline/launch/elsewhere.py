"""What other launches run, and what only another host can go on with."""

from pipeline.errors import NotReady
from pipeline.launch.context import LaunchContext
from pipeline.launch.enclosing_job import EnclosingJob
from pipeline.launch.scheduler import Schedule
from pipeline.study.claim import busy
from pipeline.study.trial_rows import TrialRow


def run_by_others(context: LaunchContext, plan: Schedule, inside: EnclosingJob | None) -> str:
    """Return which wanted trials other launches run, "" if there is nothing to wait for.

    Args:
        inside: the scheduler's job that this launch runs in; its GPUs are not kept waiting for
            what others may leave.
    """
    wanted = [want.variant for want in plan.wanted]
    others = busy(context.sweep, context.study_storage, wanted)
    if inside is not None:
        others = [o for o in others if o.lapsed or o.job == inside.id]
    return ", ".join(f"{other.variant}/{other.number} ({other.owner})" for other in others)


def remote_host(context: LaunchContext, row: TrialRow) -> str | None:
    """Return the host that has the epochs of an unfinished trial, None if they are here."""
    return row.remote_host(context.project.root) if row.epoch and not row.finished else None


def refuse_remote_trials(context: LaunchContext, plan: Schedule) -> None:
    """Say which host can go on with what is left, if this one cannot.

    Raises:
        NotReady: a wanted trial was begun in a run directory that is not seen here.
    """
    wanted = {want.variant for want in plan.wanted}
    for row in context.rows():
        host = remote_host(context, row)
        if host is not None and row.variant in wanted:
            raise NotReady(
                f"{row.name} was begun on {host} and has {row.epoch} epochs in {row.run_dir} "
                f"there, which is not seen here. Launch it on {host}, or let both hosts see "
                "one project folder."
            )
