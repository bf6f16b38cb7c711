"""The process of a launch: which one lives, and one that outlives the terminal.

`runs/<sweep>/launch.json` names the launch that was started last on this machine.
`launch --detach` runs the same command in a session of its own with its output in
`runs/<sweep>/launch.log`. It inherits an ignored SIGHUP, so that a logout cannot reach it; what
stops it is `pcan sweep stop`.
"""

import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PcanError
from pipeline.shared.files import read_json, write_json
from pipeline.study.owner import ProcessIdentity, is_alive, this_process

LAUNCH_FILE = "launch.json"
LOG = "launch.log"
#: A launch that fails its checks does so sooner; a slow one is left to its log.
CHECKS_S = 120.0


def write_pidfile(folder: Path) -> None:
    """Record that this process launches the sweep whose runs lie in `folder`."""
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(folder / LAUNCH_FILE, {**dataclasses.asdict(this_process()), "began": began})


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


class NotStarted(PcanError):
    """The detached launch ended during its checks; the text is its own."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = code


def detach(folder: Path, words: Sequence[str], cwd: Path) -> tuple[int, Path]:
    """Run `pcan WORDS` detached.

    Args:
        folder: `runs/<sweep>`.

    Returns:
        Its pid, and its log.

    Raises:
        NotStarted: it ended at once; the text is what it printed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    process.returncode = 0  # it outlives this process; keeps Python from warning about it
    return process.pid, log


def _output(log: Path, begin: int) -> str:
    with open(log, "rb") as stream:
        stream.seek(begin)
        text = stream.read().decode("utf-8", errors="replace").strip()
    return text or f"The launch ended at once and printed nothing to {log}."
