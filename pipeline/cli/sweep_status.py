"""`pcan sweep status` and `pcan sweep list`: the trials of a sweep, the sweeps of a project."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    Opened,
    csv_option,
    echo_err,
    json_option,
    one_form,
    open_sweep,
    print_csv,
    print_json,
    storage_option,
    sweep_argument,
)

if TYPE_CHECKING:
    from pipeline.plan.project import Project
    from pipeline.study.db.storage import Storage


@click.command()
@sweep_argument
@storage_option
@csv_option
@json_option
def status(sweep: str | None, storage: str | None, as_json: bool, as_csv: bool) -> None:
    """Show every trial of SWEEP: state, epochs, top-1, verdicts, what runs next.

    \b
    Example:
      pcan sweep status demo --json
    """
    from pipeline.launch.launch_process import last_command
    from pipeline.report.status.status_record import status_record, status_rows
    from pipeline.study.db.read_copy import open_to_read

    one_form(as_json, as_csv)
    opened = open_sweep(sweep)
    store = open_to_read(storage, opened.project.runs, echo_err)
    record = status_record(
        opened.sweep,
        opened.project,
        store,
        _jobs(opened),
        last_command(opened.project.runs / opened.sweep.name),
    )
    if as_json:
        print_json(record)
        return
    if as_csv:
        print_csv(status_rows(record), ("trial", "state", "phase"))
        return
    elsewhere = sweep is None and not any(study["trials"] for study in record["studies"])
    _print_screen(opened, record, _other_sweeps(opened) if elsewhere else [])


def _other_sweeps(opened: Opened) -> list[str]:
    """Return a line that names the sweeps that have run here; none where no other has."""
    from pipeline.shared.files import shell_word
    from pipeline.shared.rundir import run_directories

    runs = opened.project.runs
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    names = [f.name for f in folders if f.name != opened.sweep.name and run_directories(f)]
    if not names:
        return []
    show = f"pcan sweep status {shell_word(names[0])}"
    return [f"Sweeps with trials: {', '.join(names)}. Show one: {show}"]


def _print_screen(opened: Opened, record: dict[str, Any], others: list[str]) -> None:
    """Print the table of trials, then where the sweep stands, what is wrong and what is next."""
    from pipeline.cli.common.console import print_lines, result_console
    from pipeline.report.stats.repetitions import confirmation_text
    from pipeline.report.status.status_record import courses
    from pipeline.report.status.text import (
        goal_line,
        job_lines,
        label_lines,
        next_line,
        retry_lines,
        search_lines,
        stage_lines,
        status_lines,
        warning_lines,
    )

    console = result_console()
    curves = courses(record, opened.project.root)
    print_lines(console, status_lines(record, console.width, curves))
    following = _refill_line(opened, record) or next_line(record)
    seeds = [f"  {line}" for line in confirmation_text(record["confirmation"])]
    lines = ["", *job_lines(record), goal_line(record), *seeds, *search_lines(record)]
    print_lines(console, lines)
    print_lines(console, label_lines(record), "red")
    print_lines(console, [*warning_lines(record), *stage_lines(record)], "yellow")
    print_lines(console, [line for line in retry_lines(record) if line != following], "red")
    print_lines(console, [following, *others])


def _refill_line(opened: Opened, record: dict[str, Any]) -> str | None:
    """Return what to do where the storage knows nothing of trials that have run."""
    from pipeline.shared.rundir import run_directories

    folder = opened.project.runs / opened.sweep.name
    if any(study["trials"] for study in record["studies"]) or not run_directories(folder):
        return None
    name = opened.sweep.name
    return (
        f"The storage knows no trial, and runs/{name} has some. Refill it: "
        f"pcan doctor {name} --rebuild"
    )


def _jobs(opened: Opened) -> list[dict[str, Any]]:
    """Return this sweep's jobs in a cluster, if it was ever launched there."""
    from pipeline.cluster.executor import executor_of
    from pipeline.errors import NotReady

    executor = executor_of(opened.sweep, opened.project)
    if executor is None:
        return []
    try:
        return [job.record() for job in executor.active_jobs()]
    except NotReady as error:
        echo_err(f"{executor.title} jobs are not shown: {error}")
        return []


@click.command("list")
@storage_option
@json_option
def list_sweeps(storage: str | None, as_json: bool) -> None:
    """List the project's sweep files and the sweeps that its storage holds.

    \b
    Example:
      pcan sweep list
    """
    from pipeline.plan.project import find_project
    from pipeline.study.db.read_copy import open_to_read

    project = find_project()
    runs = project.runs
    store = open_to_read(storage, runs, echo_err, create=False) if runs.is_dir() else None
    rows = _sweep_rows(project, store)
    if as_json:
        print_json({"schema": 1, "sweeps": rows})
        return
    from pipeline.cli.common.console import print_lines, result_console
    from pipeline.report.status.text import sweeps_lines

    console = result_console()
    print_lines(console, sweeps_lines(rows, console.width))


def _sweep_rows(project: "Project", store: "Storage | None") -> list[dict[str, Any]]:
    """Return each sweep with its file, its number of trials by state, and what is wrong."""
    from pipeline.errors import SweepFileError
    from pipeline.plan.read import read_sweep
    from pipeline.study.trial_rows import read_board, sweeps_in

    known = sweeps_in(store) if store is not None else {}
    rows: list[dict[str, Any]] = []
    for file in project.sweep_files():
        try:
            name, problem = read_sweep(file, project.root).name, None
        except SweepFileError as error:
            name, problem = file.stem, str(error)
        trials = read_board(name, store) if store is not None and name in known else []
        states = Counter(str(trial.state) for trial in trials)
        path = str(file.relative_to(project.root))
        rows.append({"sweep": name, "file": path, "trials": dict(states), "problem": problem})
    files = {row["sweep"] for row in rows}
    problem = "no file in sweeps/"
    return rows + [
        {"sweep": name, "file": None, "trials": {}, "problem": problem}
        for name in known
        if name not in files
    ]
