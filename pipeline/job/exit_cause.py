"""Why a job ended: from its outcome file, else from what its processes left in the logs."""

import dataclasses
import re
import shutil
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.errors import printable
from pipeline.shared.files import read_json
from pipeline.shared.limit_messages import machine_fault, met_limit
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Cause, State

_TAIL_BYTES = 64_000
#: With less than this on the disk a job cannot write what ended it.
FULL_BYTES = 1_000_000
#: What a rank raises when another one is gone; the cause is in that one's log.
_PEER_LOST = re.compile(
    r"closed by peer|reset by peer|Broken pipe|ncclRemoteError|DistNetworkError|TCPStore|"
    r"gloo/transport|ProcessGroupNCCL.*(?:timeout|watchdog)|SignalException"
)
_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended; the fields are those of `outcome.json`."""

    state: str | None
    cause: str | None
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(self.reason))


@dataclasses.dataclass(frozen=True)
class LogBaseline:
    """Sizes of the logs, and the number of processes ended for memory, when a job started."""

    sizes: Mapping[Path, int]
    oom_kills: int


#: Cause, pattern and message; the first pattern in the logs decides, from certain to vague.
_PATTERNS: tuple[tuple[Cause, str, str], ...] = (
    (
        Cause.OOM_CUDA,
        # torch's allocator, the driver itself, cuBLAS and cuDNN, NCCL.
        r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|"
        r"CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED|Cuda failure \d+ 'out of memory'",
        "the GPU ran out of memory: lower the batch size in the base config",
    ),
    (
        Cause.OOM_HOST,
        # torch, Python and NumPy (a class of its own), C++, a system call.
        r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|"
        r"(?m:^(?:\w+\.)*(?:_Array)?MemoryError\b)|std::bad_alloc|Errno 12\b",
        "the machine did not give the memory that was asked for: fewer data workers or a smaller "
        "batch",
    ),
    (
        Cause.PORT,
        r"EADDRINUSE|address already in use",
        "the rendezvous port was taken by another process",
    ),
    (
        Cause.DISK_FULL,
        r"No space left on device|Disk quota exceeded|Errno (?:28|122)\b",
        "the disk is full",
    ),
    (
        Cause.LOST_WORKER,
        r"DataLoader worker \(pid[^)]*\) (?:is killed|exited unexpectedly)",
        "a data worker was killed; is the machine short of memory?",
    ),
)


def read_outcome(rundir: RunDir) -> Outcome | None:
    """Return the outcome that the job or its launcher wrote, None if neither did."""
    record = read_json(rundir.outcome)
    if record is None:
        return None
    return Outcome(
        state=record.get("state"), cause=record.get("cause"), reason=str(record.get("reason", ""))
    )


def log_start(rundir: RunDir, ranks: int) -> LogBaseline:
    """Return the sizes of the logs and the count of OOM kills, before a job is started.

    Logs grow over the attempts of a trial; only what this one adds shows how it ended.
    """
    files = [rundir.job_log, *(rundir.rank_log(rank) for rank in range(ranks))]
    return LogBaseline(
        sizes={file: _size(file) for file in files}, oom_kills=_oom_kills(_MEMORY_EVENTS)
    )


def classify_exit(
    rundir: RunDir, returncode: int | None, ranks: int, start: LogBaseline | None = None
) -> Outcome:
    """Return the outcome of a job that wrote none, from its logs and its exit code."""
    if not rundir.root.is_dir():
        reason = f"{rundir.root} was removed while the job ran, and its checkpoints with it"
        return Outcome(state=State.FAIL, cause=Cause.MACHINE_FAULT, reason=reason)
    if _free_bytes(rundir) < FULL_BYTES:  # then no log could hold it
        reason = f"the disk is full: {rundir.root} has no room for checkpoints and logs"
        return Outcome(state=State.FAIL, cause=Cause.DISK_FULL, reason=reason)
    sizes = start.sizes if start is not None else {}
    texts = [log_tail(file, sizes.get(file, 0)) for file in map(rundir.rank_log, range(ranks))]
    job = log_tail(rundir.job_log, sizes.get(rundir.job_log, 0))
    everything = "\n".join([*texts, job])
    raised = _last_error(texts)
    limit = met_limit(everything if raised is None else raised)
    if limit is not None:
        return Outcome(state=State.FAIL, cause=Cause.MACHINE_LIMIT, reason=limit)
    fault = machine_fault(everything if raised is None else raised, raised is not None)
    if fault is not None:
        return Outcome(state=State.FAIL, cause=Cause.MACHINE_FAULT, reason=_with(raised, fault))
    for cause, pattern, reason in _PATTERNS:
        if re.search(pattern, everything):
            cause = _lost(start) if cause is Cause.LOST_WORKER else cause
            return Outcome(state=State.FAIL, cause=cause, reason=reason)
    if raised is not None and signal.SIGKILL not in _signals(job).values():
        return Outcome(state=State.FAIL, cause=Cause.CODE_ERROR, reason=raised)
    return Outcome(state=State.FAIL, cause=_lost(start), reason=_killed(job, returncode, start))


def _with(raised: str | None, remedy: str) -> str:
    return remedy if raised is None else f"{raised.rstrip('.')}: {remedy}"


def most_relevant_log(rundir: RunDir, ranks: int) -> Path:
    """Return the log to read first: of the rank that raised, else rank 0's, else torchrun's."""
    logs = [rundir.rank_log(rank) for rank in range(ranks)]
    for log in logs:
        if _last_error([log_tail(log)]) is not None:
            return log
    return next((log for log in logs if _size(log)), rundir.job_log)


def _free_bytes(rundir: RunDir) -> int:
    try:
        return shutil.disk_usage(rundir.root).free
    except OSError:
        return FULL_BYTES


def _out_of_memory(start: LogBaseline | None) -> bool:
    return start is not None and _oom_kills(_MEMORY_EVENTS) > start.oom_kills


def _lost(start: LogBaseline | None) -> Cause:
    return Cause.OOM_HOST if _out_of_memory(start) else Cause.LOST_WORKER


def _killed(job: str, returncode: int | None, start: LogBaseline | None) -> str:
    """Return a sentence on which rank was ended by which signal, as torchrun reports it."""
    signals = _signals(job)
    if not signals:
        return f"the job's processes are gone (exit code {returncode}) and left no outcome"
    # The others follow: by an error of their own, or by torchrun's SIGTERM.
    killed = [rank for rank, number in signals.items() if number == signal.SIGKILL]
    rank = killed[0] if killed else next(iter(signals))
    text = f"rank {rank} was ended by signal {signals[rank]}"
    if _out_of_memory(start):
        return f"{text}: the machine ran out of memory; fewer data workers or a smaller batch"
    return f"{text} (out of host memory? see the kernel's log)" if killed else text


def _signals(job: str) -> dict[int, int]:
    """Return the signal number that ended each rank, torchrun's root cause first."""
    report = job[job.rfind("Root Cause") :] + job if "Root Cause" in job else job
    found = re.findall(r"rank\s*:\s*(\d+)[^\n]*\n\s*exitcode\s*:\s*-(\d+)", report)
    if not found:
        found = [
            (rank, number)
            for number, rank in re.findall(r"exitcode:\s*-(\d+)\) local_rank:\s*(\d+)", job)
        ]
    signals: dict[int, int] = {}
    for rank, number in found:
        signals.setdefault(int(rank), int(number))
    return signals


def last_lines(path: Path, count: int = 20) -> list[str]:
    """Return the last `count` lines of a log."""
    return log_tail(path).splitlines()[-count:]


def _last_error(texts: Iterable[str]) -> str | None:
    """Return the last line of the last traceback of a rank that raised by itself."""
    for text in texts:
        start = text.rfind("Traceback (most recent call last)")
        if start < 0:
            continue
        found = re.findall(
            r"^(?:\[rank\d+\]:\s*)?([\w.]*(?:Error|Exception|Interrupt)\b.*)$", text[start:], re.M
        )
        if found and not _PEER_LOST.search(found[-1]):
            return str(found[-1])[:300]
    return None


def log_tail(path: Path, since: int = 0) -> str:
    """Return the end of what was written since a size; a rotated log begins again."""
    try:
        with open(path, "rb") as stream:
            end = stream.seek(0, 2)
            stream.seek(max(since if since <= end else 0, end - _TAIL_BYTES))
            return stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _oom_kills(events: Path) -> int:
    """Return how many processes the kernel has killed for memory in this control group."""
    try:
        found = re.search(r"^oom_kill (\d+)$", events.read_text(), re.M)
    except OSError:
        return 0
    return int(found.group(1)) if found else 0
