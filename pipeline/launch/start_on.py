"""Start a launch whose jobs an engine places: check, register, keep it supplied, sum up."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.launch.context import Context
from pipeline.launch.dispatch import MOST, Dispatch
from pipeline.launch.engine import Engine
from pipeline.launch.notify import notifying
from pipeline.launch.policy import Next, Order
from pipeline.launch.record import note_launch
from pipeline.launch.show import Show
from pipeline.launch.start import Finished, eligible, ready, told
from pipeline.launch.stops import Stops
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.study.board import TrialRow
from pipeline.study.storage import Storage


def launch_on(
    engine: Engine,
    sweep: Sweep,
    project: Project,
    storage: Storage,
    *,
    order: Order,
    words: Sequence[str],
    env: Mapping[str, str],
    most: int | None,
    sets: Mapping[str, Any],
    tracking: Mapping[str, Any],
    show: Show,
    notify: Sequence[str] | None = None,
) -> Finished:
    """Register if needed, then have the engine run jobs until the plan is done.

    Args:
        words: the command of a job.
        env: what jobs get in their environment that must not be in their command.
        most: jobs at once.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is submitted.
    """
    engine.check()
    context = ready(
        sweep,
        project,
        storage,
        order=order,
        slots=(),
        sets=sets,
        tracking=tracking,
        show=show,
        jump=True,
    )
    folder = project.runs / sweep.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    note_launch(folder)
    before = {row.name for row in context.rows() if row.state == "FAIL"}
    stops = Stops(folder, sweep.job.stop_grace_s, show.line)
    with notifying(notify, sweep.name, show.line) as notice, stops.listening():
        dispatch = Dispatch(engine, context, stops, words, env, most or MOST, show.line)
        plan = dispatch.run()
        finished = _finished(context, plan, stops, before)
        if stops.signal is not None:
            show.line(
                f"Jobs that are with {engine.name.upper()} go on. End them too: pcan sweep stop "
                f"{sweep.name}"
            )
        notice("end", *told(sweep, finished))
    return finished


def _finished(context: Context, plan: Next, stops: Stops, before: set[str]) -> Finished:
    rows = context.rows()
    failed = tuple(r.name for r in rows if _failed(r) and r.name not in before)
    interrupted = any(row.phase == "interrupted" for row in rows)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (failed or not eligible(context)):
        code = 3
    why = "" if interrupted else plan.why
    return Finished(why=why, failed=failed, interrupted=interrupted, exit_code=code)


def _failed(row: TrialRow) -> bool:
    return row.state == "FAIL" and not row.superseded
