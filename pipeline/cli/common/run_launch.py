"""Run trials for a command: on this machine, in the background, or as jobs of a cluster."""

import contextlib
import functools
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import Opened, echo_err
from pipeline.env import STORAGE
from pipeline.errors import InputError, NotReady, StageWaits

#: Letters by which two messages about one thing are taken for the same.
ALIKE = 30

if TYPE_CHECKING:
    from pipeline.cli.common.terminal import Terminal
    from pipeline.launch.budget import Budget
    from pipeline.launch.context import RunOrder
    from pipeline.launch.launch import LaunchRequest
    from pipeline.launch.notify import NotifyReporter
    from pipeline.launch.reporters import LaunchResult, Reporters
    from pipeline.study.db.storage import Storage
    from pipeline.track.tracking import Tracking


def run_launch(
    ctx: click.Context,
    opened: Opened,
    order: "Callable[[Storage], RunOrder]",
    budget: "Budget",
) -> int:
    """Run trials by the options of `launch` and `search`; return the exit code.

    Args:
        order: returns what to run; a search decides by what the storage holds.
        budget: of a launch on this machine.
    """
    with _request(opened, ctx.params, order) as (request, tracking):
        if ctx.params["on"] == "local":
            result = _launch_here(ctx, request, tracking, budget)
        else:
            result = _launch_on_cluster(ctx, request, tracking)
        if result is not None and not ctx.params["in_job"]:
            _report_end(request, result.why)
    if result is None:
        return 0
    return result.exit_code


def run_repeats(
    opened: Opened, storage: "Storage", names: Sequence[str], given: Mapping[str, Any]
) -> int:
    """Run the repetitions of these trials on this machine; return the exit code.

    Args:
        given: the options of `pcan sweep best`.
    """
    from pipeline.launch.context import RunOrder
    from pipeline.launch.launch import launch

    def order(_: "Storage") -> RunOrder:
        return RunOrder(confirms=tuple(names))

    with _request(opened, given, order, storage) as (request, tracking):
        slots = _slots(request, given)
        result = launch(request, slots, wait=given["wait"])
    if result.interrupted:
        request.reporter.on_message("Interrupted; the same command goes on.")
    return result.exit_code


@contextlib.contextmanager
def _request(
    opened: Opened,
    given: Mapping[str, Any],
    order: "Callable[[Storage], RunOrder]",
    storage: "Storage | None" = None,
) -> "Iterator[tuple[LaunchRequest, Tracking]]":
    """Yield the launch that the options ask for and its W&B side; close what was opened for it.

    The options are checked first: a mistake in them makes no storage.
    """
    from pipeline.cli.common.terminal import Terminal
    from pipeline.launch.launch import LaunchRequest
    from pipeline.preflight.machine_overrides import parse_sets
    from pipeline.study.db.storage import open_storage
    from pipeline.track.tracking import Tracking

    sets = parse_sets(given["sets"])
    tracking = Tracking.of(opened.project, opened.sweep.name, given["wandb_mode"])
    with contextlib.ExitStack() as stack:
        terminal = Terminal()
        terminal.wait_for(f"Checking {opened.sweep.name}: plan, data and this machine ...")
        stack.enter_context(_everything_missing(opened, given, terminal))
        here = given.get("on", "local") == "local"
        reporter = launch_reporters(opened, terminal, tracking if here else None)
        stack.callback(reporter.close)
        notifiers = [_notifier(opened, one, given, terminal) for one in given["notify"]]
        if storage is None:
            storage = open_storage(given["storage"], opened.project.runs)
            stack.callback(storage.close)
        best = _best_so_far(opened, storage) if notifiers else None
        for notifier in notifiers:
            reporter.add(notifier.known_best(best))
        request = LaunchRequest(
            sweep=opened.sweep,
            project=opened.project,
            storage=storage,
            order=order(storage),
            sets=sets,
            tracking=tracking.spec(),
            reporter=reporter,
            command=_typed(),
        )
        yield request, tracking


def launch_reporters(
    opened: Opened, terminal: "Terminal", tracking: "Tracking | None"
) -> "Reporters":
    """Return the observers of a launch.

    Args:
        tracking: None where the trials run in jobs of a cluster, whose own launches watch them.
    """
    from pipeline.launch.record_reporters import GpuReporter, LabelReporter
    from pipeline.launch.reporters import Reporters, WandbReporter

    reporter = Reporters(terminal)
    if tracking is not None:
        folder = opened.project.runs / opened.sweep.name
        reporter.add(LabelReporter(reporter.on_message))
        reporter.add(GpuReporter())  # before the mirror, which reads what it writes
        reporter.add(WandbReporter(folder, tracking.mirror, terminal))
    return reporter


@contextlib.contextmanager
def _everything_missing(
    opened: Opened, given: Mapping[str, Any], terminal: "Terminal"
) -> Iterator[None]:
    """After the first thing that this machine lacks, say all others that `pcan doctor` finds.

    The first is printed at once: looking for the others builds each model, which takes a while.
    Only before the first trial: later the launch has shown that the machine is ready.
    """
    try:
        yield
    except StageWaits:
        raise
    except NotReady as error:
        if terminal.checked or given.get("on", "local") != "local" or given.get("in_job"):
            raise
        from pipeline.preflight.finding import CheckContext
        from pipeline.preflight.machine_overrides import parse_sets
        from pipeline.preflight.runner import examine

        context = CheckContext(
            project=opened.project,
            sweep=opened.sweep,
            storage_url=given["storage"],
            device=given["device"],
            gpus=given["gpus"],
            sets=parse_sets(given["sets"]),
        )
        first, command = str(error), f"pcan doctor {opened.sweep.name}"
        terminal.line(first)
        terminal.wait_for("Looking for what else this machine lacks ...")
        wrong = [finding for finding in examine(context) if finding.severity == "error"]
        more = {finding.message: finding.check for finding in reversed(wrong)}
        lines = "\n".join(
            f"  {check}: {text}"
            for text, check in reversed(more.items())
            if text[:ALIKE] not in first
        )
        more_text = f"Not ready either ({command}):\n{lines}" if lines else f"See also: {command}"
        raise NotReady(more_text) from None


def _notifier(
    opened: Opened, target: str, given: Mapping[str, Any], console: "Terminal"
) -> "NotifyReporter":
    from pipeline.launch.notify import make_notifier

    end = not given.get("in_job")  # one job of many does not end the launch
    return make_notifier(target, opened.sweep.name, console, opened.sweep.notify, end=end)


def _best_so_far(opened: Opened, storage: "Storage") -> float | None:
    """Return the best top-1 of the sweep's trials; before the first one, what is known."""
    from pipeline.study.trial_rows import read_board

    rows = read_board(opened.sweep.name, storage)
    values = [row.best_top1 for row in rows if row.variant not in opened.sweep.makers]
    return max((v for v in values if v is not None), default=opened.sweep.objective.best_known)


def _report_end(request: "LaunchRequest", why: str) -> None:
    """Print why a launch ended, where the sweep stands, and the next command, as `status` does."""
    from pipeline.report.status.status_record import status_record
    from pipeline.report.status.text import goal_line, next_line

    if request.storage is None:
        return
    record = status_record(
        request.sweep, request.project, request.storage, command=request.command
    )
    for line in (f"{why}." if why else "", goal_line(record), next_line(record)):
        if line:
            request.reporter.on_message(line)


def _typed() -> str:
    """Return the command as it was typed; a password in a URL is left out."""
    from pipeline.launch.notify import hidden_target

    ctx = click.get_current_context()
    words = ["pcan", "sweep", str(ctx.info_name)]
    for word in _given_argv(ctx, ["in_job"]):
        name, equals, value = word.partition("=")
        apart = equals and name.startswith("--") and not value.startswith("-")
        if name == "--notify":
            value = hidden_target(value)
        words += [name, value] if apart else [word]
    return shlex.join(re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", word) for word in words)


def _slots(request: "LaunchRequest", given: Mapping[str, Any], patience_s: float = 0.0) -> Any:
    """Return the slots that the options name, each with its GPUs."""
    from pipeline.launch.slot_pool import find_slots

    chosen = (given["device"], given["gpus"], given["slots"])
    return find_slots(request.sweep, *chosen, request.reporter, given["wait"], patience_s)


def _launch_here(
    ctx: click.Context, request: "LaunchRequest", tracking: "Tracking", budget: "Budget"
) -> "LaunchResult | None":
    """Launch on this machine; None if a process in the background does."""
    from pipeline.cluster.executor import JobEnvironment
    from pipeline.launch.launch import launch
    from pipeline.launch.slot_pool import GPU_DRAIN_S

    given = ctx.params
    # A scheduler hands GPUs on while the processes of the job before may still be ending there.
    slots = _slots(request, given, GPU_DRAIN_S if given["in_job"] else 0.0)
    if given["detach"]:
        _detach(ctx, request.make_folder(), request.sweep.name)
        return None
    for line in tracking.hints():
        request.reporter.on_message(line)
    job = JobEnvironment.detect(request.sweep) if given["in_job"] else None
    wait = given["wait"]
    return launch(request, slots, wait=wait, budget=budget, enclosing=job)


def _launch_on_cluster(
    ctx: click.Context, request: "LaunchRequest", tracking: "Tracking"
) -> "LaunchResult | None":
    """Launch as jobs of the cluster, each with the given options; None if nothing was run here.

    Nothing is run by `--dry-run`, nor where a process in the background takes over.
    """
    from pipeline.cluster.cluster_launch import launch_on
    from pipeline.cluster.executor import executor_class
    from pipeline.launch.scheduler import candidates

    given, sweep = ctx.params, request.sweep
    _refuse_local_options(given, searching=request.order.search is not None)
    chosen = executor_class(given["on"])
    executor = chosen(sweep, request.project, given["device"], request.storage)
    if given.get("dry_run"):
        executor.check()
        for name in candidates(sweep, request.order):
            click.echo(f"{sweep.name}/{name}")
        script = executor.describe(_job_words(ctx, request.order))
        request.reporter.on_message(f"As jobs of {executor.title}, each by this script:\n{script}")
        return None
    if given["detach"]:
        executor.check()
        _detach(ctx, request.make_folder(), sweep.name)
        return None
    for line in tracking.hints():
        request.reporter.on_message(line)
    return launch_on(
        executor,
        request,
        argv=functools.partial(_job_words, ctx),
        env={STORAGE: given["storage"]} if given["storage"] else {},
        max_workers=given["slots"],
    )


def _refuse_local_options(given: Mapping[str, Any], searching: bool) -> None:
    """Refuse options about this machine's GPUs or about the time of one launch.

    The GPU hours of a search count over all its commands, so they are passed on to each job.
    """
    scheduler = given["on"]
    for name in ("gpus", "wait", "max_hours", "gpu_hours"):
        if given[name] and not (searching and name == "gpu_hours"):
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} is for a launch on this machine. With --on {scheduler} the cluster "
                f"places jobs and bounds their time: {scheduler}: {{time: ...}} in the sweep file."
            )


def _job_words(ctx: click.Context, order: "RunOrder") -> list[str]:
    """Return the command of a job: an ordinary launch of one slot on the GPUs it is given.

    The jobs of a search get the variant and the number of trials as decided by the first launch,
    so that all count alike.
    """
    leave = ["detach", "dry_run", "on", "slots", "storage"]
    decided = []
    if order.search is not None:
        leave += ["variant", "trials"]
        decided = [f"--variant={order.search.variant}", f"--trials={order.search.trials}"]
    words = [*_given_argv(ctx, leave), *decided]
    device = [] if ctx.params["device"] else ["--device=cuda"]
    python = [sys.executable, "-P", "-m", "pipeline.cli.main"]
    return [*python, "sweep", str(ctx.info_name), *words, *device, "--slots=1", "--in-job"]


def _detach(ctx: click.Context, folder: Path, sweep: str) -> None:
    """Start the same command in the background; print how to watch and how to stop it."""
    from pipeline.launch.launch_process import detach

    words = ["sweep", str(ctx.info_name), *_given_argv(ctx, ["detach"])]
    pid, log = detach(folder, words, Path.cwd(), _typed())
    echo_err(f"Launched in the background: pid {pid}, log {log}.")
    echo_err(f"Watch it: pcan sweep watch {sweep}   Stop it: pcan sweep stop {sweep}")


def _given_argv(ctx: click.Context, leave: Collection[str]) -> list[str]:
    """Return the command's arguments as typed, without the options in `leave`.

    Values that came from the environment are left there.
    """
    words: list[str] = []
    for param in ctx.command.params:
        name = str(param.name)
        value = ctx.params.get(name)
        typed = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not typed or name in leave:
            continue
        if isinstance(param, click.Argument):
            words.append(str(value))
        elif value is True:
            words.append(param.opts[0])
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{param.opts[0]}={one}" for one in values]
    return words
