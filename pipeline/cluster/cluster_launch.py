"""Start a launch whose trials run in cluster jobs: check, register, dispatch, sum up."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.cluster.dispatcher import DEFAULT_MAX_WORKERS, Dispatcher
from pipeline.cluster.executor import Executor
from pipeline.launch.budget import Budget
from pipeline.launch.context import LaunchContext, RunOrder, Schedule
from pipeline.launch.launch import LaunchRequest, has_winner, prepare_launch
from pipeline.launch.launch_process import write_pidfile
from pipeline.launch.reporters import LaunchResult, report_error
from pipeline.launch.search_setup import max_parallel, start_search
from pipeline.launch.stop_requests import StopRequests
from pipeline.shared.states import Cause, Phase, State
from pipeline.study.trial_rows import TrialRow


def launch_on(
    executor: Executor,
    request: LaunchRequest,
    *,
    argv: Callable[[RunOrder], Sequence[str]],
    env: Mapping[str, str],
    max_workers: int | None,
) -> LaunchResult:
    """Register if needed, then have the scheduler run jobs until the plan is done.

    Args:
        argv: makes the command of a job from the settled order.
        env: what jobs get in their environment that must not be in their command.
        max_workers: jobs at once, None for the search's own number or a default.

    Raises:
        PcanError: anything that keeps the launch from starting; nothing is submitted.
    """
    executor.check()
    sweep, reporter = request.sweep, request.reporter
    context = prepare_launch(request)
    if request.order.search is not None:
        context, _ = start_search(context, Budget(), reporter)
    folder = request.make_folder()
    write_pidfile(folder, request.command, sweep.path)
    before = {
        (row.name, row.attempt) for row in context.rows() if _failed(row) or _interrupted(row)
    }
    stops = StopRequests(folder, sweep.job.stop_grace_s, reporter)
    with report_error(reporter), stops.signal_handlers():
        workers = max_workers or max_parallel(context, DEFAULT_MAX_WORKERS)
        dispatcher = Dispatcher(
            executor, context, stops, argv(context.order), env, workers, reporter
        )
        schedule = dispatcher.run()
        finished = _finished(context, schedule, stops, before, dispatcher.cancelled > 0)
        if stops.signal is not None:
            reporter.on_message(
                f"Jobs that are with {executor.title} go on. End them too: pcan sweep stop "
                f"{sweep.name}"
            )
        reporter.on_launch_end(finished)
    return finished


def _finished(
    context: LaunchContext,
    schedule: Schedule,
    stops: StopRequests,
    before: set[tuple[str, int]],
    cancelled: bool,
) -> LaunchResult:
    rows = [row for row in context.rows() if (row.name, row.attempt) not in before]
    new = [row for row in rows if _failed(row)]
    failed = tuple(row.name for row in new)
    # That some trials diverge is part of a search.
    wrong = [row for row in new if context.order.search is None or row.cause != Cause.NAN]
    interrupted = cancelled or any(_interrupted(row) for row in rows)
    code = stops.exit_code
    if code == 0 and interrupted:
        code = 75
    if code == 0 and (wrong or schedule.failed or not has_winner(context)):
        code = 3
    why = "" if interrupted else schedule.why
    return LaunchResult(why=why, failed=failed, interrupted=interrupted, exit_code=code)


def _interrupted(row: TrialRow) -> bool:
    return row.phase == Phase.INTERRUPTED


def _failed(row: TrialRow) -> bool:
    return row.state == State.FAIL and not row.superseded
