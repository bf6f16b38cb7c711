"""Which rank of a stalled job stands, and where: from the stacks that the ranks wrote."""

import re
from collections.abc import Sequence

from pipeline.shared.rundir import RunDir

#: Where a rank is that waits for the others.
_WAITING = re.compile(
    r"torch/(?:distributed|nn/parallel|autograd|_tensor)|mmengine/(?:dist|model/wrappers)|"
    r"pipeline/train/distributed"
)
#: The thread that runs the training is the last that faulthandler writes.
_MAIN = re.compile(r"(?:Current t|T)hread 0x[0-9a-f]+ .*\(most recent call first\):\n")
_FRAME = re.compile(r'^  File "([^"]+)", line (\d+) in (\S+)', re.M)


def log_sizes(rundir: RunDir, ranks: int) -> list[int]:
    """Return the present sizes of the ranks' logs."""
    files = [rundir.rank_log(rank) for rank in range(ranks)]
    return [file.stat().st_size if file.exists() else 0 for file in files]


def standing_ranks(rundir: RunDir, since: Sequence[int]) -> str:
    """Return a clause on the ranks that do not wait for others, "" if that cannot be said.

    Args:
        since: the sizes of the logs before the ranks were asked for their stacks.
    """
    places = [_place(rundir, rank, start) for rank, start in enumerate(since)]
    standing = [rank for rank, place in enumerate(places) if place is None or not _waits(place)]
    if not standing or (len(standing) == len(places) and len(places) > 1):
        return ""
    told = [f"rank {rank} {_where(places[rank])} (rank{rank}.log)" for rank in standing]
    waiting = "; the others wait for it" if len(standing) < len(places) else ""
    return f": {', '.join(told)}{waiting}"


def _place(rundir: RunDir, rank: int, start: int) -> list[tuple[str, str, str]] | None:
    """Return the frames of a rank's main thread, innermost first; None if it wrote none."""
    try:
        with open(rundir.rank_log(rank), "rb") as stream:
            stream.seek(start)
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return None
    stacks = _MAIN.split(text)
    return _FRAME.findall(stacks[-1]) if len(stacks) > 1 else None


def _waits(frames: Sequence[tuple[str, str, str]]) -> bool:
    return bool(frames) and _WAITING.search(frames[0][0]) is not None


def _where(frames: Sequence[tuple[str, str, str]] | None) -> str:
    if not frames:
        return "does not answer"
    file, line, function = frames[0]
    return f"stands in {function}, {file.rpartition('/')[2]}:{line}"
