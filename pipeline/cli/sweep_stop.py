"""`pcan sweep stop`: end running trials cleanly, resumable."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pipeline.cli.common.options import (
    Amount,
    Opened,
    echo_err,
    open_sweep,
    storage_option,
    sweep_argument,
)
from pipeline.errors import PcanError
from pipeline.shared.states import Phase

if TYPE_CHECKING:
    from pipeline.study.db.storage import Storage

POLL_S = 0.5


@click.command()
@sweep_argument
@click.option("--now", is_flag=True, help="Don't wait for the running epoch; it is lost.")
@click.option(
    "--timeout",
    type=Amount(0),
    default=3600.0,
    show_default=True,
    help="Seconds to wait for the trials to end; 0: don't wait.",
)
@storage_option
def stop(sweep: str | None, now: bool, timeout: float, storage: str | None) -> None:
    """Ask every launch of SWEEP to stop after the running epoch; the trials stay resumable.

    Jobs that are pending in SLURM are cancelled.

    \b
    Example:
      pcan sweep stop pcan_ntu60 --now
    """
    from pipeline.cluster.executor import executor_of
    from pipeline.launch.stop_requests import STOP_FILE
    from pipeline.shared.files import write_json
    from pipeline.study.db.storage import open_storage

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    name = opened.sweep.name
    trials = _running(opened, store)
    _name_remote_trials(opened, store)
    executor = executor_of(opened.sweep, opened.project)
    if not trials and (executor is None or not executor.active_jobs()):
        echo_err(f"Nothing of {name} is running in this folder.")
        return
    write_json(opened.project.runs / name / STOP_FILE, {"time": time.time(), "now": now})
    if executor is not None and (waiting := executor.cancel_pending()):
        echo_err(f"Cancelled pending {executor.title} jobs: {', '.join(waiting)}.")
    if trials:
        when = "now" if now else "after the running epoch"
        echo_err(f"Asked to stop {when}: {', '.join(trials)}.")
    left = _wait_for_end(trials, lambda: _running(opened, store), timeout)
    if left and timeout > 0:
        raise PcanError(
            f"Still running after {timeout:g} s: {', '.join(left)}. Stop at once: "
            f"pcan sweep stop {name} --now"
        )
    if not left:
        if executor is not None:
            executor.cancel_remaining()
        echo_err(f"Stopped. Go on: pcan sweep launch {name}")


def _running(opened: Opened, store: "Storage") -> list[str]:
    """Return the trials that run in this project's folder."""
    from pipeline.study.trial_rows import read_board

    board = [row for row in read_board(opened.sweep.name, store) if row.phase == Phase.RUNNING]
    return [row.name for row in board if row.remote_host(opened.project.root) is None]


def _name_remote_trials(opened: Opened, store: "Storage") -> None:
    """Print which trials run in a folder that this host does not see."""
    from pipeline.study.trial_rows import read_board

    for row in read_board(opened.sweep.name, store):
        host = row.remote_host(opened.project.root) if row.phase == Phase.RUNNING else None
        if host is not None:
            echo_err(
                f"{row.name} runs on {host}, in a folder that this host does not see. There: "
                f"pcan sweep stop {opened.sweep.name}"
            )


def _wait_for_end(
    trials: list[str], running: Callable[[], list[str]], timeout: float
) -> list[str]:
    """Wait until no trial runs or the time is over; return those that still run."""
    deadline = time.monotonic() + timeout
    while trials and time.monotonic() < deadline:
        time.sleep(POLL_S)
        trials = running()
    return trials
