"""Why a job ended: from its outcome file, else from what its processes left in the logs."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.job.rundir import RunDir, read_json

#: Causes after which the same job may be tried again; the sweep file says how often.
RETRIED = ("lost_worker", "port", "stall")
_TAIL_BYTES = 64_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended; the fields are those of `outcome.json`."""

    state: str | None
    cause: str | None
    reason: str


#: The first pattern found in the logs names the cause; the order is from sure to vague.
_SIGNS: tuple[tuple[str, str, str], ...] = (
    (
        "oom_cuda",
        r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory",
        "the GPU ran out of memory: lower the batch size in the base config",
    ),
    (
        "port",
        r"EADDRINUSE|address already in use",
        "the rendezvous port was taken by another process",
    ),
    ("disk_full", r"No space left on device|Errno 28", "the disk is full"),
    (
        "data_worker",
        r"DataLoader worker \(pid[^)]*\) (?:is killed|exited unexpectedly)",
        "a data worker was killed; is the machine short of memory?",
    ),
)


def read_outcome(rundir: RunDir) -> Outcome | None:
    """Return what the job or the supervisor wrote, None if neither did."""
    record = read_json(rundir.outcome)
    if record is None:
        return None
    return Outcome(
        state=record.get("state"), cause=record.get("cause"), reason=str(record.get("reason", ""))
    )


def explain(rundir: RunDir, returncode: int | None, ranks: int) -> Outcome:
    """Find the cause of a job that ended without an outcome."""
    texts = [_tail(rundir.rank_log(rank)) for rank in range(ranks)]
    job = _tail(rundir.job_log)
    everything = "\n".join([*texts, job])
    for cause, pattern, words in _SIGNS:
        if re.search(pattern, everything):
            return Outcome(state="FAIL", cause=cause, reason=words)
    raised = _last_error(texts)
    if raised is not None:
        return Outcome(state="FAIL", cause="code_error", reason=raised)
    killed = re.search(r"Signal (\d+) \(SIG\w+\) received by PID|exitcode\s*: -(\d+)", job)
    if killed:
        number = next(group for group in killed.groups() if group)
        hint = " (out of host memory?)" if number == "9" else ""
        words = f"a rank was ended by signal {number}{hint}"
    else:
        words = f"the job's processes are gone (exit code {returncode}) and left no outcome"
    return Outcome(state="FAIL", cause="lost_worker", reason=words)


def last_lines(path: Path, count: int = 20) -> list[str]:
    """Return the last lines of a log, for a message."""
    return _tail(path).splitlines()[-count:]


def _last_error(texts: Iterable[str]) -> str | None:
    """Return the last line of the last traceback of a rank, if one raised."""
    for text in texts:
        start = text.rfind("Traceback (most recent call last)")
        if start < 0:
            continue
        found = re.findall(r"^([\w.]*(?:Error|Exception|Interrupt)\b.*)$", text[start:], re.M)
        if found:
            return str(found[-1])[:300]
    return None


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            return stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
