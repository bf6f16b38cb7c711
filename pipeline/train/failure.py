"""Names the cause of an exception, where the job alone can know it."""

import errno
import pickle
import traceback
from pathlib import PurePath
from typing import List, Optional

from pipeline.train.outcome import JobFailure

#: Functions in which a data set is read, by MMEngine, MMAction2 and torch.
_READS_DATA = {
    "full_init",
    "load_data_list",
    "load_annotations",
    "get_data_info",
    "prepare_data",
    "fetch",
}
#: What a rank is told when another one is gone: the other rank knows the cause.
_PEER_LOST = ("closed by peer", "reset by peer", "NCCL", "gloo", "Broken pipe", "TCPStore")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Stage:
    """How far the job has come; what goes wrong while it is built is the config's fault."""

    def __init__(self) -> None:
        self.name = "config"


def classify_error(error: BaseException, stage: str) -> Optional[JobFailure]:
    """Return the known cause of `error`, or None: then the supervisor decides."""
    if isinstance(error, JobFailure):
        return error
    text = _one_line(error)
    if _out_of_gpu_memory(error):
        return JobFailure(
            "oom_cuda", f"The GPU's memory is full: {text} A smaller batch size needs less."
        )
    full = _no_room(error)
    if full is not None:
        return JobFailure("disk_full", f"The disk is full: {_one_line(full)}.")
    if _worker_died(text) or _peer_lost(error):
        return None
    if _reading_data(error):
        return JobFailure("bad_data", f"A sample or annotation cannot be read: {text}.")
    if stage in ("config", "build") and isinstance(error, Exception):
        return JobFailure("bad_config", f"The config cannot be carried out: {text}.")
    return None


def _one_line(error: BaseException) -> str:
    """Return kind and text of an error; of one from a data worker, the worker's own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if _from_worker(str(error)):
        return lines[-1].rstrip(".")
    return f"{type(error).__name__}: {lines[0]}".rstrip(".")


def _no_room(error: Optional[BaseException]) -> Optional[OSError]:
    """Return the refusal of the file system that `error` came from: torch wraps it in its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def _out_of_gpu_memory(error: BaseException) -> bool:
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "CUDA out of memory" in str(error))


def _worker_died(text: str) -> bool:
    """Tell whether a data worker was killed: that is no fault of the data."""
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
