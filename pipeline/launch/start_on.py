"""Start a launch whose jobs an engine places: check, register, keep it supplied, sum up."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.launch.budget import Budget
from pipeline.launch.context import Context
from pipeline.launch.dispatch import MOST, Dispatch
from pipeline.launch.engine import Engine
from pipeline.launch.notify import notifying
from pipeline.launch.policy import Next, Order
from pipeline.launch.record import note_launch
from pipeline.launch.search_start import at_once, begun
from pipeline.launch.start import Finished, Request, eligible, ready, told
from pipeline.launch.stops import Stops
from pipeline.study.board import TrialRow


def launch_on(
    engine: Engine,
    request: Request,
    *,
    words: Callable[[Order], Sequence[str]],
    env: Mapping[str, str],
    most: int | None,
) -> Finished:
    """Register if needed, then have the engine run jobs until the plan is done.

    Args:
        words: makes the command of a job from the order as it was settled.
        env: what jobs get in their environment that must not be in their command.
        most: jobs at once.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is submitted.
    """
    engine.check()
    sweep, say = request.sweep, request.show.line
    context = ready(request)
    if request.order.search is not None:
        context, _ = begun(context, Budget(), say)
    folder = request.make_folder()
    note_launch(folder)
    before = {(row.name, row.attempt) for row in context.rows() if _failed(row) or _rests(row)}
    stops = Stops(folder, sweep.job.stop_grace_s, say)
    with notifying(request.notify, sweep.name, say) as notice, stops.listening():
        most = most or at_once(context, MOST)
        dispatch = Dispatch(engine, context, stops, words(context.order), env, most, say)
        plan = dispatch.run()
        finished = _finished(context, plan, stops, before, dispatch.cancelled > 0)
        if stops.signal is not None:
            say(
                f"Jobs that are with {engine.name.upper()} go on. End them too: pcan sweep stop "
                f"{sweep.name}"
            )
        notice("end", *told(sweep, finished))
    return finished


def _finished(
    context: Context, plan: Next, stops: Stops, before: set[tuple[str, int]], cancelled: bool
) -> Finished:
    rows = [row for row in context.rows() if (row.name, row.attempt) not in before]
    new = [row for row in rows if _failed(row)]
    failed = tuple(row.name for row in new)
    # That some trials diverge is part of a search.
    wrong = [row for row in new if context.order.search is None or row.cause != "nan"]
    interrupted = cancelled or any(_rests(row) for row in rows)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (wrong or not eligible(context)):
        code = 3
    why = "" if interrupted else plan.why
    return Finished(why=why, failed=failed, interrupted=interrupted, exit_code=code)


def _rests(row: TrialRow) -> bool:
    return row.phase == "interrupted"


def _failed(row: TrialRow) -> bool:
    return row.state == "FAIL" and not row.superseded
