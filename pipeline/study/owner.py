"""Who runs a trial: the identity of a process that survives pid reuse, reboots and clocks.

A process is the same one only if host, boot, pid namespace, pid and start time all agree.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.env import host_name, lease_s

#: A lease of another host that was not renewed for so long belongs to a dead owner. All hosts of a
#: storage need the same value.
LEASE_S = lease_s()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """The identity of a process.

    Args:
        host: host name and pid namespace, so that two containers on a host are two hosts.
        boot_id: the kernel's id of this boot.
        proc_start: start time in clock ticks since boot.
    """

    host: str
    boot_id: str
    pid: int
    proc_start: int


def this_process() -> ProcessIdentity:
    pid = os.getpid()
    return ProcessIdentity(
        host=this_host(), boot_id=this_boot(), pid=pid, proc_start=start_time(pid) or 0
    )


def this_host() -> str:
    """Return this host's name; PCAN_HOST replaces it where several share one."""
    name = host_name()
    namespace = _namespace()
    return f"{name}/{namespace}" if namespace else name


@functools.cache
def _namespace() -> str:
    """Return the id of this pid namespace, which differs in a container; "" if unknown."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def shown_host(host: str) -> str:
    """Return the host name alone, without the pid namespace."""
    return host.split("/", 1)[0]


def this_boot() -> str:
    """Return the id of this boot, "" where the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot, None if there is no such process.

    A zombie counts as gone: it holds no GPU and runs no code.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rfind(")") + 2 :].split()  # the name may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(owner: ProcessIdentity) -> bool | None:
    """Return whether the owner is alive, None if it is on another host."""
    if owner.host != this_host():
        return None
    if owner.boot_id != this_boot():
        return False
    return start_time(owner.pid) == owner.proc_start


def is_dead(row: Mapping[str, Any], now: float) -> bool:
    """Return whether the owner that a lease row names has died.

    On the owner's own host the process itself is looked up, so a clock that jumps does not matter;
    elsewhere the lease must have run out by the database's clock.
    """
    if row["token"] is None or row["pid"] is None:
        return True
    owner = ProcessIdentity(
        host=row["host"],
        boot_id=row["boot_id"],
        pid=row["pid"],
        proc_start=row["proc_start"],
    )
    alive = is_alive(owner)
    if alive is not None:
        return not alive
    return now - (row["renewed_at"] or 0.0) > LEASE_S
