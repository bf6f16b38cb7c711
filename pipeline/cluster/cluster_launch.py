"""Start a launch whose jobs an engine places: check, register, keep it supplied, sum up."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.cluster.dispatcher import DEFAULT_MAX_WORKERS, Dispatcher
from pipeline.cluster.executor import Executor
from pipeline.launch.budget import Budget
from pipeline.launch.context import LaunchContext
from pipeline.launch.launch import LaunchRequest, has_winner, prepare_launch
from pipeline.launch.orders import RunOrder, Schedule
from pipeline.launch.pidfile import write_pidfile
from pipeline.launch.reporters import LaunchResult, report_error
from pipeline.launch.search_setup import max_parallel, start_search
from pipeline.launch.stop_requests import StopRequests
from pipeline.study.trial_rows import TrialRow


def launch_on(
    engine: Executor,
    request: LaunchRequest,
    *,
    words: Callable[[RunOrder], Sequence[str]],
    env: Mapping[str, str],
    most: int | None,
) -> LaunchResult:
    """Register if needed, then have the engine run jobs until the plan is done.

    Args:
        words: makes the command of a job from the order as it was settled.
        env: what jobs get in their environment that must not be in their command.
        most: jobs at once.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is submitted.
    """
    engine.check()
    sweep, reporter = request.sweep, request.reporter
    context = prepare_launch(request)
    if request.order.search is not None:
        context, _ = start_search(context, Budget(), reporter)
    folder = request.make_folder()
    write_pidfile(folder)
    before = {(row.name, row.attempt) for row in context.rows() if _failed(row) or _rests(row)}
    stops = StopRequests(folder, sweep.job.stop_grace_s, reporter)
    with report_error(reporter), stops.signal_handlers():
        most = most or max_parallel(context, DEFAULT_MAX_WORKERS)
        dispatch = Dispatcher(engine, context, stops, words(context.order), env, most, reporter)
        plan = dispatch.run()
        finished = _finished(context, plan, stops, before, dispatch.cancelled > 0)
        if stops.signal is not None:
            reporter.on_message(
                f"Jobs that are with {engine.name.upper()} go on. End them too: pcan sweep stop "
                f"{sweep.name}"
            )
        reporter.on_launch_end(finished)
    return finished


def _finished(
    context: LaunchContext,
    plan: Schedule,
    stops: StopRequests,
    before: set[tuple[str, int]],
    cancelled: bool,
) -> LaunchResult:
    rows = [row for row in context.rows() if (row.name, row.attempt) not in before]
    new = [row for row in rows if _failed(row)]
    failed = tuple(row.name for row in new)
    # That some trials diverge is part of a search.
    wrong = [row for row in new if context.order.search is None or row.cause != "nan"]
    interrupted = cancelled or any(_rests(row) for row in rows)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (wrong or not has_winner(context)):
        code = 3
    why = "" if interrupted else plan.why
    return LaunchResult(why=why, failed=failed, interrupted=interrupted, exit_code=code)


def _rests(row: TrialRow) -> bool:
    return row.phase == "interrupted"


def _failed(row: TrialRow) -> bool:
    return row.state == "FAIL" and not row.superseded
