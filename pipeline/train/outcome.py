"""How a job says why it ended: `outcome.json`, written by the first rank that knows.

Only what the job alone can know is written here. For any other death the supervisor
decides; it sees exit codes, signals and the logs.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from pipeline.shared.files import fsync_folder, read_json, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.train.rank_process import exit_if_replaced


class JobFailure(Exception):
    """The job cannot go on, and knows why.

    Args:
        cause: one word for programs, as in `outcome.json`.
        reason: one or two sentences for the user.
    """

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason


def record_outcome(
    rundir: RunDir,
    attempt: int,
    state: Optional[str],
    cause: Optional[str],
    reason: Optional[str],
    rank: int = 0,
) -> bool:
    """Write `outcome.json` unless this attempt has one already.

    Returns:
        Whether this call's outcome is the one that stands.
    """
    exit_if_replaced(rundir)
    record = {
        "state": state,
        "cause": cause,
        "reason": reason,
        **summary(rundir),
        "attempt": attempt,
        "rank": rank,
    }
    standing = read_json(rundir.outcome)
    if standing is not None and standing.get("attempt") == attempt:
        return False
    if standing is not None:
        # Left by an earlier attempt that was interrupted and is now taken up again.
        write_json(rundir.outcome, record)
        return True
    return _create(rundir.outcome, record)


def _create(path: Path, record: Dict[str, Any]) -> bool:
    """Make `path` with its whole content at once; False if another rank was first."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=str(path.parent))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(record, indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, str(path))
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    fsync_folder(path.parent)
    return True


def summary(rundir: RunDir) -> Dict[str, Any]:
    """Return what the measurements so far amount to, in the words of `outcome.json`."""
    measured = [m for m in rundir.read_measurements() if m.epoch > 0]
    best = best_of(measured)
    return {
        "epochs": measured[-1].epoch if measured else 0,
        "best_epoch": best.epoch if best else None,
        "best_top1": best.top1 if best else None,
        "checkpoint": _checkpoint_name(rundir, best.epoch) if best else None,
        "last_checkpoint": _checkpoint_name(rundir, measured[-1].epoch) if measured else None,
    }


def best_of(measured: Sequence[Measurement]) -> Optional[Measurement]:
    """Return the measurement with the highest finite top-1, the first of equals."""
    finite = [m for m in measured if m.finite]
    return max(finite, key=lambda m: (m.top1, -m.epoch)) if finite else None


def _checkpoint_name(rundir: RunDir, epoch: int) -> Optional[str]:
    path = rundir.checkpoints / f"epoch_{epoch}.pth"
    return f"{rundir.checkpoints.name}/{path.name}" if path.exists() else None
