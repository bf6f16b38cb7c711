"""The process of a launch: which one lives, and one that outlives the terminal.

`runs/<sweep>/launch.json` names the launch that was started last on this machine.
`launch --detach` runs the same command in a session of its own with its output in
`runs/<sweep>/launch.log`. It inherits an ignored SIGHUP, so that a logout cannot reach it; what
stops it is `pcan sweep stop`.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PcanError
from pipeline.plan.project import LAUNCH_FILE, Project, relative
from pipeline.shared.counted import counted
from pipeline.shared.files import make_private, read_json, timestamp, write_json, write_text
from pipeline.study.owner import ProcessIdentity, is_alive, this_process

LOG = "launch.log"
START_LOG = "start.log"
#: Lines that a start prints on the terminal; one more names where it runs.
MOST_LINES = 2
#: A launch that fails its checks does so sooner; a slow one is left to its log.
CHECKS_S = 120.0


def write_pidfile(folder: Path, command: str, sweep: Path) -> None:
    """Record that this process launches the sweep whose runs lie in `folder`.

    Args:
        command: as it was typed.
        sweep: the sweep file.
    """
    owner = dataclasses.asdict(this_process())
    how = {"began": timestamp(), "command": command, "sweep": str(sweep)}
    write_json(folder / LAUNCH_FILE, {**owner, **how})


def last_command(folder: Path) -> str:
    """Return the command of the launch that was started last, "" if that is not known."""
    return str((read_json(folder / LAUNCH_FILE) or {}).get("command") or "")


def launch_is_alive(folder: Path) -> bool:
    """Whether the launch that was started last is alive, as far as this host can see."""
    return bool(launcher(folder))


def launcher(folder: Path) -> int | None:
    """Return the pid of the launch that was started last, None if it is gone."""
    record = read_json(folder / LAUNCH_FILE)
    if record is None:
        return None
    try:
        owner = ProcessIdentity(
            **{f.name: record[f.name] for f in dataclasses.fields(ProcessIdentity)}
        )
    except KeyError:
        return None
    return owner.pid if is_alive(owner) else None


def opening_lines(notes: Sequence[str], folder: Path, project: Project) -> list[str]:
    """Return what a launch prints at its start; the rest of a long list goes to a file."""
    if len(notes) <= MOST_LINES:
        return list(notes)
    log = folder / START_LOG
    write_text(log, "".join(f"{note}\n" for note in notes))
    left = counted(len(notes) - MOST_LINES + 1, "more line")
    return [*notes[: MOST_LINES - 1], f"{left} on this start: {relative(log, project.root)}"]


class NotStarted(PcanError):
    """The detached launch ended during its checks; the text is its own."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = code


def detach(folder: Path, words: Sequence[str], cwd: Path, command: str = "") -> tuple[int, Path]:
    """Run `pcan WORDS` detached.

    Args:
        folder: `runs/<sweep>`.
        command: as it was typed, to be named where it has to be run again.

    Returns:
        Its pid, and its log.

    Raises:
        NotStarted: it ended at once; the text is what it printed.
    """
    make_private(folder)
    log = folder / LOG
    with open(log, "ab") as stream:
        begin = stream.tell()
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.cli.main", *words],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGHUP, before)
    os.chmod(log, 0o600)
    deadline = time.monotonic() + CHECKS_S
    while launcher(folder) != process.pid and time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotStarted(_output(log, begin), process.returncode)
        time.sleep(0.1)
    record = read_json(folder / LAUNCH_FILE)
    if record is not None and command:
        write_json(folder / LAUNCH_FILE, {**record, "command": command})
    process.returncode = 0  # it outlives this process; keeps Python from warning about it
    return process.pid, log


def _output(log: Path, begin: int) -> str:
    with open(log, "rb") as stream:
        stream.seek(begin)
        text = stream.read().decode("utf-8", errors="replace").strip()
    return text or f"The launch ended at once and printed nothing to {log}."
