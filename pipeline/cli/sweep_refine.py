"""`pcan sweep refine`: what the trained weights still give, without another training."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    Opened,
    echo_err,
    json_option,
    notify_option,
    open_sweep,
    print_json,
    slot_options,
    storage_option,
    sweep_argument,
)
from pipeline.errors import PcanError

if TYPE_CHECKING:
    from pipeline.job.slots import Slot
    from pipeline.study.trial_rows import TrialRow


@click.command()
@sweep_argument
@click.option("--trial", metavar="VARIANT/N", help="Refine this one. [default: the winner]")
@click.option(
    "--with",
    "count",
    type=click.IntRange(1, 50),
    default=4,
    show_default=True,
    metavar="N",
    help="Trials to join at most, the best ones, itself among them.",
)
@click.option("--test", is_flag=True, help="Then read the chosen line on the test split, once.")
@click.option("--again", is_flag=True, help="With --test: once more; this is recorded.")
@slot_options
@notify_option
@storage_option
@json_option
def command(
    sweep: str | None,
    trial: str | None,
    count: int,
    test: bool,
    again: bool,
    notify: tuple[str, ...],
    storage: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Read what the winner's weights still give: ratio, clips, flip, means, soup, ensemble.

    Each line is chosen on one part of the validation clips and read on the other. Interrupted,
    the same command goes on with what was read.

    \b
    Example:
      pcan sweep refine demo --with 3
    """
    from pipeline.report.best.winner import find_winner
    from pipeline.study.db.storage import open_storage
    from pipeline.study.trial_rows import read_board

    if again and not test:
        raise click.UsageError("--again goes with --test.")
    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs, create=False)
    rows = read_board(opened.sweep.name, store)
    winner = find_winner(opened.sweep, rows, trial, opened.project.runs).row
    with notify_end(opened, notify) as end:
        record = _refine(opened, rows, winner, count, (test, again), given)
        end(f"refine of {winner.name}: {record['chosen']} is chosen.")
    if as_json:
        print_json(record)
        return
    _print_table(record, opened.sweep.name)


def _print_table(record: dict[str, Any], sweep: str) -> None:
    from pipeline.refine.text import table_lines

    click.echo("\n".join(table_lines(record)))
    echo_err(f"Export it: pcan sweep best {sweep} --refined")


def _refine(
    opened: Opened,
    rows: "list[TrialRow]",
    winner: "TrialRow",
    count: int,
    test: tuple[bool, bool],
    given: dict[str, Any],
) -> dict[str, Any]:
    """Refine on the slots of this machine; return the table."""
    from pipeline.cli.common.console import Bar
    from pipeline.refine.held_out import read_test, refuse_second
    from pipeline.refine.refinement import RefineRequest, refine
    from pipeline.shared.rundir import RunDir

    if test[0]:
        refuse_second(RunDir(opened.project.root / (winner.run_dir or "")), test[1])
    bar = Bar("Reading clips", shares=True)
    with held_slots(opened, given, f"refine {winner.name}") as slots, bar:
        request = RefineRequest(
            sweep=opened.sweep,
            project=opened.project,
            rows=rows,
            winner=winner,
            count=count,
            slots=slots,
            progress=bar.update,
        )
        record = refine(request)
        return read_test(request, record) if test[0] else record


@contextlib.contextmanager
def held_slots(opened: Opened, given: dict[str, Any], name: str) -> Iterator["list[Slot]"]:
    """Hold slots for processes that read clips: a GPU each, or the CPU."""
    from pipeline.cli.common.terminal import Terminal
    from pipeline.refine.score_worker import acquire_slots, find_reading_slots

    reporter = Terminal()
    wait = bool(given["wait"])
    found = find_reading_slots(
        opened.sweep, given["device"], given["gpus"], given["slots"], reporter, wait
    )
    # SIGTERM ends the processes that read as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, lambda *_: _leave())
    slots = acquire_slots(found, name, reporter, wait)
    try:
        yield slots
    finally:
        reporter.close()
        for slot in slots:
            slot.release()
        signal.signal(signal.SIGTERM, before)


def _leave() -> None:
    raise SystemExit(143)


@contextlib.contextmanager
def notify_end(opened: Opened, targets: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """Yield what takes the sentence for the event "end"; an error here is a "failure".

    Raises:
        InputError: a target cannot be used; the block is not entered.
    """
    from pipeline.launch.notify import make_notifier
    from pipeline.launch.reporters import LineReporter

    console, sweep = LineReporter(echo_err), opened.sweep
    notifiers = [make_notifier(one, sweep.name, console, sweep.notify) for one in targets]

    def end(sentence: str) -> None:
        for notifier in notifiers:
            notifier.send("end", sentence, {"exit_code": 0, "failed": []})

    try:
        yield end
    except PcanError as error:
        for notifier in notifiers:
            notifier.on_launch_error(error)
        raise
    finally:
        for notifier in notifiers:
            notifier.close()
