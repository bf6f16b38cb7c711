"""Which launch of a sweep was started last on this machine, and whether it lives."""

import dataclasses
import datetime
from pathlib import Path

from pipeline.shared.files import read_json, write_json
from pipeline.study.owner import ProcessIdentity, is_alive, this_process

LAUNCH_FILE = "launch.json"


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
