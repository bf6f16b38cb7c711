"""How a job says why it ended: `outcome.json`, written by the first rank that knows.

Only what the job alone can know is written here: the cause of an exception, or how the training
ended. For any other death the supervisor decides; it sees exit codes, signals and the logs.
"""

import errno
import json
import os
import pickle
import re
import sys
import tempfile
import traceback
from pathlib import Path, PurePath
from typing import Any, Dict, Iterator, List, Optional

from pipeline.shared.counted import all_of
from pipeline.shared.files import fsync_folder, read_json, write_json
from pipeline.shared.limit_messages import machine_fault, met_limit
from pipeline.shared.measurement import best_of
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Cause, State
from pipeline.train.rank_process import exit_if_replaced

#: Functions in which a data set is read, by MMEngine, MMAction2 and torch.
_READS_DATA = {
    "full_init",
    "load_data_list",
    "load_annotations",
    "get_data_info",
    "prepare_data",
    "fetch",
}
#: In a rank's error when another one is gone: the other rank knows the cause.
_PEER_LOST = ("closed by peer", "reset by peer", "NCCL", "gloo", "Broken pipe", "TCPStore")
#: What torch says where a GPU is asked for and there is none.
_NO_GPU = re.compile(
    r"No CUDA GPUs are available|not compiled with CUDA|no NVIDIA driver|CUDA-capable device|"
    r"CUDA driver|CUDA unknown error|torch\.cuda\.is_available\(\) is False|invalid device ordinal"
)
_MISSING = re.compile(r"\[Errno 2\] No such file or directory: '([^'\n]+)'")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class JobFailure(Exception):
    """The job cannot go on, and knows why.

    Args:
        cause: as in `outcome.json`.
        reason: one or two sentences for the user.
    """

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason


def record_outcome(
    rundir: RunDir,
    attempt: int,
    state: Optional[State],
    cause: Optional[Cause],
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
    """Return the entries of `outcome.json` that follow from the measurements so far."""
    measured = [m for m in rundir.read_measurements() if m.epoch > 0]
    best = best_of(measured)
    return {
        "epochs": measured[-1].epoch if measured else 0,
        "best_epoch": best.epoch if best else None,
        "best_top1": best.top1 if best else None,
        "checkpoint": _checkpoint_name(rundir, best.epoch) if best else None,
        "last_checkpoint": _checkpoint_name(rundir, measured[-1].epoch) if measured else None,
    }


def _checkpoint_name(rundir: RunDir, epoch: int) -> Optional[str]:
    path = rundir.checkpoints / f"epoch_{epoch}.pth"
    return f"{rundir.checkpoints.name}/{path.name}" if path.exists() else None


def _has_gpu() -> bool:
    import torch  # loaded already where it has raised an error

    return bool(torch.cuda.is_available())


def asks_for_gpu(text: str) -> bool:
    """Whether an error's text says that a GPU was asked for where there is none."""
    return _NO_GPU.search(text) is not None


class Stage:
    """How far the job has come: an error while it is built is the config's fault."""

    def __init__(self) -> None:
        self.name = "config"


def classify_error(error: BaseException, stage: str) -> Optional[JobFailure]:
    """Return the known cause of `error`, or None: then the supervisor decides."""
    if isinstance(error, JobFailure):
        return error
    text = _one_line(error)
    if _out_of_gpu_memory(error):
        return JobFailure(
            Cause.OOM_CUDA, f"The GPU's memory is full: {text} A smaller batch size needs less."
        )
    machine = _of_machine(error, stage, text)
    if machine is not None:
        return machine
    if _worker_died(text) or _peer_lost(error):
        return None
    if _reading_data(error):
        return JobFailure(Cause.BAD_DATA, f"A sample or annotation cannot be read: {text}.")
    if asks_for_gpu(str(error)) and not _has_gpu():
        return JobFailure(
            Cause.BAD_CONFIG,
            f"The code asks for a GPU, and this job runs on the CPU ({text}). Leave the device to "
            "the job, which moves the model to its GPU; or launch on GPUs.",
        )
    if stage in ("config", "build") and isinstance(error, Exception):
        return JobFailure(Cause.BAD_CONFIG, f"The config cannot be carried out: {text}.")
    return None


def _of_machine(error: BaseException, stage: str, text: str) -> Optional[JobFailure]:
    """Return what of the machine an error is about, None if it is about data, config or code."""
    limit = met_limit(str(error))
    if limit is not None:
        return JobFailure(Cause.MACHINE_LIMIT, f"{text}: {limit}.")
    full = _no_room(error)
    if full is not None:
        return JobFailure(Cause.DISK_FULL, f"The disk is full: {_one_line(full)}.")
    fault = next(filter(None, map(machine_fault, _texts(error))), None)
    if fault is not None:
        return JobFailure(Cause.MACHINE_FAULT, f"{text}: {fault}.")
    gone = _folder_gone(str(error)) if stage == "train" else None
    if gone is not None:
        return JobFailure(
            Cause.MACHINE_FAULT,
            f"{text}: the folder {gone} was there when the job began; is its disk still mounted?",
        )
    return None


def _one_line(error: BaseException) -> str:
    """Return kind and text of an error; of one from a data worker, the worker's own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if _from_worker(str(error)):
        return lines[-1].rstrip(".")
    return f"{type(error).__name__}: {lines[0]}".rstrip(".")


def _folder_gone(text: str) -> Optional[str]:
    """Return the missing folder of a file that an error says is missing, None if it is there."""
    for name in _MISSING.findall(text):
        folder = os.path.dirname(name)
        if os.path.isabs(folder) and not os.path.isdir(folder):
            return folder
    return None


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    """Yield an error and those that it came from: torch wraps the file system's in its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_room(error: BaseException) -> Optional[OSError]:
    """Return the error of a full file system that `error` came from."""
    found = (one for one in _chain(error) if isinstance(one, OSError))
    return next((one for one in found if one.errno in _FULL), None)


def _texts(error: BaseException) -> Iterator[str]:
    return (f"{type(one).__name__}: {one}" for one in _chain(error))


def _out_of_gpu_memory(error: BaseException) -> bool:
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "CUDA out of memory" in str(error))


def _worker_died(text: str) -> bool:
    """Whether a data worker was killed: that is not a fault of the data."""
    return "DataLoader worker" in text and ("killed by signal" in text or "exited" in text)


def _peer_lost(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _PEER_LOST)


def _from_worker(text: str) -> bool:
    return text.startswith("Caught ") and "in DataLoader worker process" in text


def _reading_data(error: BaseException) -> bool:
    if _from_worker(str(error)):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    if any(_reads_data(frame) for frame in frames):
        return True
    unreadable = isinstance(error, (OSError, EOFError, pickle.UnpicklingError))
    return unreadable and any(frame.name == "build_dataloader" for frame in frames)


def _reads_data(frame: traceback.FrameSummary) -> bool:
    parts: List[str] = list(PurePath(frame.filename).parts)
    return frame.name in _READS_DATA and ("dataset" in "".join(parts) or "data" in parts)


def ended_early(runner: Any) -> str:
    """Return that something other than the plan has ended a training, and what it may be."""
    ours = ("mmengine.", "pipeline.")
    own = [type(h).__name__ for h in runner.hooks if not type(h).__module__.startswith(ours)]
    hooks = f" (it has {', '.join(own)})" if own else ""
    return (
        f"The training ended after epoch {runner.epoch} of {runner.max_epochs}, and not by the "
        f"plan: a hook or the loop of the config stopped it{hooks}. Remove that; patience and "
        "gates of the sweep file are what stops a trial."
    )


def write_outcome(
    runner: Any, stop: Optional[Dict[str, Any]], rundir: RunDir, spec: TrialSpec
) -> None:
    """Write how the training ended.

    Args:
        stop: the control side's request that the job followed, None without one.
    """
    finished = runner.epoch >= runner.max_epochs
    state: Optional[State] = State.COMPLETE
    cause: Optional[Cause] = None
    if stop is not None and not (finished and stop.get("state") is None):
        state, cause, reason = stop.get("state"), stop.get("cause"), stop.get("reason")
    elif finished:
        reason = f"{all_of(runner.max_epochs, 'epoch is', 'epochs are')} done."
    else:
        state, cause, reason = State.FAIL, Cause.ENDED_EARLY, ended_early(runner)
    record_outcome(rundir, spec.attempt, state, cause, reason)
    print(f"Outcome: {state}, {cause}: {reason}", file=sys.stderr)
