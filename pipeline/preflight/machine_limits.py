"""Limits of the machine at which a job stands still or dies: temporary files, shared memory, open
files, processes, the network interface that its ranks meet on.

A job that meets one of them often prints a message in one process while the others wait for it, so
they are looked at before it is started. Certain faults are errors, likely ones are warnings.
"""

import dataclasses
import os
import resource
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import NotReady
from pipeline.job.rendezvous import most_bytes, socket_folder, temporary_folder
from pipeline.shared.counted import counted
from pipeline.shared.loader_workers import suggest_workers

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where torch's loaders put batches on Linux
#: Below this torchrun and the ranks cannot write their own small files.
LEAST_TEMPORARY_BYTES = 10_000_000
#: A rank holds fewer files open than this before its first batch; with 24 allowed, a job without
#: loader processes stood still, with 32 it ran (torch 2.13).
OWN_FILES, LEAST_FILES = 64, 28
#: Threads and processes of a rank, and of each of its loader processes (measured with one thread
#: for numerical libraries: 6 and 2).
PER_RANK, PER_WORKER = 12, 4
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchLoad:
    """What one loader of a config keeps in shared memory.

    Args:
        batch_bytes: of all tensors of one batch.
        batch_tensors: their number; each is an open file in the rank that receives it.
        workers: loader processes of the config; a job takes fewer where the machine has less.
        prefetch: batches that each of them prepares ahead.
    """

    loader: str
    batch_bytes: int
    batch_tensors: int
    workers: int
    prefetch: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LimitProblems:
    """Sentences on limits: what will stop a job, and what may."""

    certain: tuple[str, ...] = ()
    likely: tuple[str, ...] = ()

    def beside(self, other: "LimitProblems") -> "LimitProblems":
        """Return the sentences of both."""
        certain, likely = (*self.certain, *other.certain), (*self.likely, *other.likely)
        return LimitProblems(certain=certain, likely=likely)

    def refuse(self) -> None:
        """Raise NotReady if a job is certain to fail."""
        if self.certain:
            raise NotReady("\n".join(self.certain))


def machine_limits(jobs: int, ranks: int) -> LimitProblems:
    """Return what is known of this machine without a config.

    Args:
        jobs: that run here at the same time.
        ranks: of each.
    """
    certain: list[str] = []
    likely: list[str] = []
    try:
        certain += _temporary_full(socket_folder())
        likely += _temporary_moved()
    except NotReady as error:
        certain.append(str(error))
    certain += _interfaces(os.environ)
    files = _limit(resource.RLIMIT_NOFILE)
    if files < OWN_FILES:
        (certain if files < LEAST_FILES else likely).append(_too_few_files(files, OWN_FILES))
    left, name = processes_left()
    need = jobs * (PER_RANK * ranks + 2)
    if left < need:
        sentence = (
            f"{left} more processes and threads are allowed here ({name}), and "
            f"{counted(jobs, 'job')} of {counted(ranks, 'rank')} need about {need}. Raise the "
            "limit, or end other processes."
        )
        (certain if left < jobs * (ranks + 1) else likely).append(sentence)
    return LimitProblems(certain=tuple(certain), likely=tuple(likely))


def loader_limits(
    loads: Iterable[BatchLoad], jobs: int, ranks: int, prepared: bool
) -> LimitProblems:
    """Return what the batches of a config's loaders exceed."""
    certain: list[str] = []
    likely: list[str] = []
    cores = len(os.sched_getaffinity(0))
    fit = max(1, suggest_workers(cores, jobs, ranks, prepared))
    for load in [load for load in loads if load.workers > 0]:
        workers = min(load.workers, fit)
        for sentence, sure in (
            *_shared_memory(load, workers * jobs * ranks),
            *_files(load),
            *_loader_processes(load, workers * jobs * ranks),
        ):
            (certain if sure else likely).append(sentence)
    return LimitProblems(certain=tuple(certain), likely=tuple(likely))


def loads_of(record: Mapping[str, Mapping[str, Any]]) -> list[BatchLoad]:
    """Return the loads in a rehearsal's answer, by loader."""
    return [BatchLoad(loader=name, **one) for name, one in record.items()]


def _temporary_full(folder: str) -> Iterator[str]:
    free = shutil.disk_usage(folder).free
    if free < LEAST_TEMPORARY_BYTES:
        yield (
            f"{folder}, the folder for temporary files, has {free / 1e6:.1f} MB free; a job needs "
            f"{LEAST_TEMPORARY_BYTES / 1e6:.0f} MB there. Make room, or name another: export "
            "TMPDIR=FOLDER"
        )


def _temporary_moved() -> Iterator[str]:
    """Yield a sentence if temporary files go elsewhere than TMPDIR says."""
    named, usual = os.environ.get("TMPDIR"), temporary_folder()
    if named and os.path.abspath(named) != usual:
        reason = "cannot be written" if os.path.isdir(named) else "is not a folder"
        yield f"TMPDIR is {named}, which {reason}; {usual} is used."
    chosen = socket_folder()
    if chosen != usual:
        yield (
            f"{usual} has {len(os.fsencode(usual))} bytes, and sockets of data workers need a "
            f"folder of at most {most_bytes()}; jobs use {chosen} for temporary files."
        )


def _interfaces(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each network interface that is named but is not there."""
    have = [name for _, name in socket.if_nameindex()]
    for key in _INTERFACES:
        named = environment.get(key, "")
        plain = not named.startswith(("^", "="))  # NCCL's own patterns
        if named and plain and not any(h.startswith(n) for n in named.split(",") for h in have):
            yield (
                f"{key} is {named}; this machine has the interfaces {', '.join(have)}. Unset it: "
                "the ranks of a job meet on lo."
            )


def _shared_memory(load: BatchLoad, workers: int) -> Iterator[tuple[str, bool]]:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return
    need = load.batch_bytes * load.prefetch * workers
    if need > usage.free:
        yield (
            f"{load.loader}: the loader processes of all ranks ({workers}) keep up to "
            f"{counted(load.prefetch, 'batch', 'batches')} of {_size(load.batch_bytes)} each in "
            f"shared memory, {_size(need)} in all; {SHARED_MEMORY} has {_size(usage.free)} free "
            f"of {_size(usage.total)}. Make it larger (docker run --shm-size, or mount -o "
            f"remount,size=), or set {load.loader}.num_workers lower: 0 needs none.",
            load.batch_bytes > usage.total,
        )


def _files(load: BatchLoad) -> Iterator[tuple[str, bool]]:
    need = OWN_FILES + load.prefetch * load.batch_tensors
    have = _limit(resource.RLIMIT_NOFILE)
    if have < need:
        sentence = f"{load.loader}: {_too_few_files(have, need)}"
        yield sentence, have < LEAST_FILES + load.batch_tensors


def _loader_processes(load: BatchLoad, workers: int) -> Iterator[tuple[str, bool]]:
    left, name = processes_left()
    need = PER_WORKER * workers
    if left < need:
        yield (
            f"{load.loader}: its loader processes ({workers} in all ranks) need about {need}, "
            f"threads counted, and {left} more are allowed here ({name}). Raise the limit, "
            f"or set {load.loader}.num_workers lower.",
            left < workers,
        )


def _too_few_files(have: int, need: int) -> str:
    return (
        f"A process may have {counted(have, 'file')} open here, and a rank of a job needs about "
        f"{need}. Raise the limit: ulimit -Hn {max(4096, need)}"
    )


def processes_left() -> tuple[int, str]:
    """Return how many more processes and threads may be started, and which limit says so."""
    found = [(_limit(resource.RLIMIT_NPROC) - _own_threads(), "ulimit -u")]
    if os.getuid() == 0:  # the kernel does not hold root to that one
        found = []
    for folder in control_groups():
        most, now = _number(folder / "pids.max"), _number(folder / "pids.current")
        if most is not None and now is not None:
            found.append((most - now, str(folder / "pids.max")))
    return min(found, default=(2**31, "no limit"))


def control_groups() -> Iterator[Path]:
    """Yield this process's control groups of version 2, from its own up to the root."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is not None:
        folder = root / own.lstrip("/")
        yield from (f for f in (folder, *folder.parents) if f.is_relative_to(root))


def _own_threads() -> int:
    """Return the number of this user's threads, as RLIMIT_NPROC counts them."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == os.getuid():
                    count += len(os.listdir(f"{entry.path}/task"))
            except OSError:
                continue
    return count


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _limit(kind: int) -> int:
    """Return a hard limit: a rank raises its own to that (`pipeline/train/rank_process.py`)."""
    hard = resource.getrlimit(kind)[1]
    return 2**31 if hard == resource.RLIM_INFINITY else hard


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
