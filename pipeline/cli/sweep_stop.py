"""`pcan sweep stop`: end running trials cleanly, resumable."""

import time

import click

from pipeline.cli.options import Amount, open_sweep, say_to_stderr, storage_option, sweep_argument
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
    from pipeline.job.files import write_json
    from pipeline.launch.placed import cancel_waiting, end_rest, engine_of, placed
    from pipeline.launch.stops import STOP_FILE
    from pipeline.study.board import read_board
    from pipeline.study.storage import open_storage

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    name = opened.sweep.name

    def running() -> list[str]:
        board = [row for row in read_board(name, store) if row.phase == "running"]
        return [row.name for row in board if row.away(opened.project.root) is None]

    for row in read_board(name, store):
        host = row.away(opened.project.root) if row.phase == "running" else None
        if host is not None:
            say_to_stderr(
                f"{row.name} runs on {host}, in a folder that is not seen here. There: "
                f"pcan sweep stop {name}"
            )
    engine = engine_of(opened.sweep, opened.project)
    trials, jobs = running(), placed(engine) if engine is not None else []
    if not trials and not jobs:
        say_to_stderr(f"Nothing of {name} is running in this folder.")
        return
    folder = opened.project.runs / name
    write_json(folder / STOP_FILE, {"time": time.time(), "now": now})
    if engine is not None and (waiting := cancel_waiting(engine)):
        say_to_stderr(f"Cancelled what waited with SLURM: {', '.join(waiting)}.")
    if trials:
        when = "now" if now else "after the running epoch"
        say_to_stderr(f"Asked to stop {when}: {', '.join(trials)}.")
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
        if engine is not None:
            end_rest(engine)
        say_to_stderr(f"Stopped. Go on: pcan sweep launch {name}")
