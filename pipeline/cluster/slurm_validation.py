"""What a SLURM cluster has, and what of a sweep it can never run, checked before submission.

SLURM itself accepts much of this and leaves it pending forever.
"""

import dataclasses
import re
import socket
from collections.abc import Callable, Sequence

from pipeline.errors import NotReady, StorageError, SweepFileError
from pipeline.plan.project import Project
from pipeline.plan.sweep import Slurm, Sweep
from pipeline.shared.counted import counted
from pipeline.study.db.sqlite import network_kind
from pipeline.study.db.storage import Storage

_LOCAL = {"", "localhost", "127.0.0.1", "::1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A node as a partition offers it; `limit_s` is the partition's longest time."""

    partition: str
    default: bool
    name: str
    gpus: int
    cpus: int
    limit_s: int | None


@dataclasses.dataclass(frozen=True)
class Cluster:
    """All nodes of all partitions."""

    nodes: Sequence[Node]

    @property
    def partitions(self) -> list[str]:
        return list(dict.fromkeys(node.partition for node in self.nodes))

    def offered(self, slurm: Slurm) -> list[Node]:
        """Return the nodes that a job may run on."""
        name = slurm.partition
        nodes = [n for n in self.nodes if (n.partition == name if name else n.default)]
        return [n for n in nodes if not slurm.nodes or n.name in slurm.nodes]

    def excluded(self, slurm: Slurm) -> str | None:
        """Return `--exclude`; SLURM's `--nodelist` would require all of its nodes at once."""
        if not slurm.nodes:
            return None
        others = dict.fromkeys(n.name for n in self.nodes if n.name not in slurm.nodes)
        return ",".join(others) or None

    def share(self, sweep: Sweep, gpus: int) -> int | None:
        """Return the cores of one job: the same share of a node's cores as of its GPUs."""
        if gpus == 0:
            return sweep.job.gpus
        usable = [n for n in self.offered(sweep.slurm) if n.gpus >= gpus]
        return min((max(1, n.cpus * gpus // n.gpus) for n in usable), default=None)


def read_cluster(call: Callable[[Sequence[str]], str]) -> Cluster:
    """Return the partitions and nodes that `sinfo` lists.

    Args:
        call: runs a command and returns its output.
    """
    listed = call(["sinfo", "-a", "-h", "-N", "-o", "%P|%N|%G|%c|%l"])
    return Cluster([_node(line) for line in listed.splitlines() if line.count("|") == 4])


def validate(
    sweep: Sweep,
    project: Project,
    cluster: Cluster,
    gpus: int,
    storage: Storage | None,
    lead_s: int,
) -> None:
    """Refuse jobs that would stay pending forever, or whose results would not be seen here.

    Args:
        gpus: how many GPUs a job asks for.
        lead_s: how long before its time limit a job is signalled to stop.

    Raises:
        SweepFileError: the `slurm:` block asks for what the cluster does not have.
        NotReady: the cluster cannot run this sweep from here.
        StorageError: the jobs cannot reach the storage.
    """
    slurm = sweep.slurm
    if slurm.partition is not None and slurm.partition not in cluster.partitions:
        known = ", ".join(cluster.partitions) or "none"
        raise SweepFileError(
            f'{sweep.where("slurm", "partition")}: slurm.partition is "{slurm.partition}"; this '
            f"cluster has: {known}."
        )
    offered = cluster.offered(slurm)
    if not offered:
        raise _no_nodes(sweep, cluster)
    where = f"partition {offered[0].partition}"
    most = max(node.gpus for node in offered)
    if gpus > most:
        have = f"more than {most}" if most else "any"
        raise NotReady(
            f"A job needs {counted(gpus, 'GPU')} (job.gpus), and no node of {where} "
            f"has {have}. Name "
            "another partition under slurm:, or train on CPUs: --device cpu"
        )
    _refuse_time(sweep, offered, where, lead_s)
    _refuse_unshared(sweep, project, offered, storage)


def seconds(text: str) -> int | None:
    """Return a time limit of SLURM in seconds, None if it is infinite or not understood."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", text.strip(), re.ASCII)
    if found is None:
        return None
    parts = [int(part) for part in found[2].split(":")]
    if found[1] is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, secs = (*parts, 0, 0)[:3]
        return ((int(found[1]) * 24 + hours) * 60 + minutes) * 60 + secs
    if len(parts) == 1:
        return 60 * parts[0]
    hours, minutes, secs = (0, *parts)[-3:]
    return (hours * 60 + minutes) * 60 + secs


def _refuse_time(sweep: Sweep, offered: Sequence[Node], where: str, lead_s: int) -> None:
    if sweep.slurm.time is None:
        return
    line, limit_s = sweep.where("slurm", "time"), seconds(sweep.slurm.time) or 0
    limits = [node.limit_s for node in offered]
    longest = None if None in limits else max(limit or 0 for limit in limits)
    if longest is not None and limit_s > longest:
        raise SweepFileError(
            f"{line}: slurm.time {sweep.slurm.time} is longer than {where} allows "
            f"({longest / 3600:g} h); the job would stay pending forever."
        )
    epoch_s = 60 * (sweep.job.epoch_minutes or 0)
    if limit_s < lead_s + epoch_s:
        raise SweepFileError(
            f"{line}: slurm.time {sweep.slurm.time} leaves no time for an epoch: one takes "
            f"{epoch_s / 60:g} min, and a job is stopped {lead_s / 60:.0f} min before its limit."
        )


def _refuse_unshared(
    sweep: Sweep, project: Project, offered: Sequence[Node], storage: Storage | None
) -> None:
    """Refuse folders and storages that jobs on other nodes cannot use."""
    here = socket.gethostname().split(".")[0]
    others = sorted({node.name for node in offered if node.name.split(".")[0] != here})
    if not others:
        return
    nodes = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    if storage is not None and storage.sqlite_file is not None:
        raise StorageError(
            f"The storage {storage.shown} is a file that {nodes} cannot use together. Use a "
            "server: --storage postgresql+psycopg://USER@HOST/DATABASE"
        )
    if storage is not None and (storage.host or "").lower() in _LOCAL:
        raise StorageError(
            f"The storage {storage.shown} is on this machine's own address, which means another "
            f"machine on {nodes}. Write the name by which they reach it."
        )
    folder = project.runs if project.runs.exists() else project.root
    if not sweep.slurm.shared and network_kind(folder) is None:
        raise NotReady(
            f"{folder} is on a local file system, and jobs on {nodes} have to see it. Move the "
            "project to a shared one; or, if it is shared, say so: slurm: {shared: true}"
        )


def _no_nodes(sweep: Sweep, cluster: Cluster) -> Exception:
    names = ", ".join(dict.fromkeys(node.name for node in cluster.nodes)) or "none"
    if sweep.slurm.nodes:
        listed = ", ".join(sweep.slurm.nodes)
        return SweepFileError(
            f"{sweep.where('slurm', 'nodes')}: slurm.nodes {listed} are not in that partition; "
            f"this cluster has: {names}."
        )
    return NotReady(
        "This cluster has no default partition. Name one under slurm: in the sweep file: "
        f"{', '.join(cluster.partitions) or 'none is there'}."
    )


def _node(line: str) -> Node:
    partition, name, gres, cpus, limit = line.split("|")
    gpus = re.findall(r"\bgpu:(?:[^:,()]+:)*(\d+)", gres, re.ASCII)
    return Node(
        partition=partition.rstrip("*"),
        default=partition.endswith("*"),
        name=name,
        gpus=sum(map(int, gpus)),
        cpus=int(re.sub(r"[^0-9]", "", cpus) or 1),
        limit_s=seconds(limit),
    )
