"""`pcan sweep stop`: end running trials cleanly, resumable."""

import time

import click

from pipeline.cli.common.options import (
    Amount,
    echo_err,
    open_sweep,
    storage_option,
    sweep_argument,
)
from pipeline.errors import PcanError


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

    What waits with SLURM is cancelled.

    \b
    Example:
      pcan sweep stop pcan_ntu60 --now
    """
    from pipeline.cluster.executor import executor_of
    from pipeline.launch.stop_requests import STOP_FILE
    from pipeline.shared.files import write_json
    from pipeline.study.db.storage import open_storage
    from pipeline.study.trial_rows import read_board

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    name = opened.sweep.name

    def running() -> list[str]:
        board = [row for row in read_board(name, store) if row.phase == "running"]
        return [row.name for row in board if row.remote_host(opened.project.root) is None]

    for row in read_board(name, store):
        host = row.remote_host(opened.project.root) if row.phase == "running" else None
        if host is not None:
            echo_err(
                f"{row.name} runs on {host}, in a folder that is not seen here. There: "
                f"pcan sweep stop {name}"
            )
    executor = executor_of(opened.sweep, opened.project)
    trials, jobs = running(), executor.active_jobs() if executor is not None else []
    if not trials and not jobs:
        echo_err(f"Nothing of {name} is running in this folder.")
        return
    folder = opened.project.runs / name
    write_json(folder / STOP_FILE, {"time": time.time(), "now": now})
    if executor is not None and (waiting := executor.cancel_pending()):
        echo_err(f"Cancelled what waited with {executor.title}: {', '.join(waiting)}.")
    if trials:
        when = "now" if now else "after the running epoch"
        echo_err(f"Asked to stop {when}: {', '.join(trials)}.")
    deadline = time.monotonic() + timeout
    while trials and time.monotonic() < deadline:
        time.sleep(0.5)
        trials = running()
    if trials and timeout > 0:
        raise PcanError(
            f"Still running after {timeout:g} s: {', '.join(trials)}. Stop at once: "
            f"pcan sweep stop {name} --now"
        )
    if not trials:
        if executor is not None:
            executor.cancel_remaining()
        echo_err(f"Stopped. Go on: pcan sweep launch {name}")
