"""Slots: the GPUs (or the CPU place) that one job holds while it lives.

A GPU is held by a lock on a file that all users of the machine share. The lock belongs to the
launcher's process, so it ends with it, however that ends. The package `filelock` is not used: in a
folder that all users write to, the file must be opened without following a link, and its content
names the holder.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.env import gpu_lock_folder
from pipeline.errors import NotReady
from pipeline.job.gpus import Gpu, list_gpus
from pipeline.shared.counted import counted
from pipeline.shared.files import parsed


@dataclasses.dataclass
class Slot:
    """A place for one job; `gpus` is empty on the CPU."""

    number: int
    gpus: tuple[Gpu, ...]
    _handles: list[int] = dataclasses.field(default_factory=list, repr=False)

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def visible(self) -> str:
        """CUDA_VISIBLE_DEVICES for the job."""
        return ",".join(gpu.uuid for gpu in self.gpus)

    @property
    def shown(self) -> str:
        """The slot in messages: "0,1" or "cpu"."""
        return ",".join(str(gpu.index) for gpu in self.gpus) or "cpu"

    def acquire(self, trial: str) -> str | None:
        """Lock the slot's GPUs for a trial.

        Returns:
            None on success, else a sentence on who holds one of them.
        """
        for gpu in self.gpus:
            handle = _open(gpu)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(handle)
                os.close(handle)
                self.release()
                return f"GPU {gpu.index} is used by {holder}"
            except OSError as error:
                os.close(handle)
                self.release()
                raise _no_lock(f"its file system gives no locks ({error.strerror})") from None
            self._handles.append(handle)
            note = json.dumps({"pid": os.getpid(), "trial": trial, "user": os.getuid()})
            os.ftruncate(handle, 0)
            os.pwrite(handle, note.encode(), 0)
        return None

    def foreign_usage(self, gpus: Sequence[Gpu] | None = None) -> str | None:
        """Return who uses one of the GPUs without holding its lock, None if they are free.

        Args:
            gpus: this machine's GPUs as they are now; None to ask the driver.
        """
        if not self.gpus:
            return None
        accepted = {gpu.uuid: gpu.accepted for gpu in self.gpus}
        gpus = list_gpus() if gpus is None else gpus
        own = [
            dataclasses.replace(gpu, accepted=accepted[gpu.uuid])
            for gpu in gpus
            if gpu.uuid in accepted
        ]
        used = [gpu.describe_usage() for gpu in own if gpu.in_use]
        return "; ".join(used) or None

    def release(self) -> None:
        """Unlock the GPUs."""
        while self._handles:
            os.close(self._handles.pop())


def gpu_slots(gpus: Sequence[Gpu], per_job: int, most: int | None) -> list[Slot]:
    """Return slots of `per_job` GPUs each, at most `most`.

    Raises:
        NotReady: fewer GPUs than one job needs, or than `most` slots need.
    """
    count = len(gpus) // per_job
    shown = ", ".join(str(gpu.index) for gpu in gpus) or "none"
    if count < (most or 1):
        needs = (
            f"{counted(most, 'slot')} of {per_job} GPUs"
            if most
            else f"A job needs {counted(per_job, 'GPU')}"
        )
        remedy = f"Use --slots {count}." if count else "On this machine: --device cpu"
        verb = " need" if most else ""
        raise NotReady(f"{needs}{verb}, and {len(gpus)} can be used here ({shown}). {remedy}")
    count = min(count, most) if most else count
    return [
        Slot(number=i, gpus=tuple(gpus[i * per_job : (i + 1) * per_job])) for i in range(count)
    ]


def cpu_slots(most: int | None) -> list[Slot]:
    """Return `most` slots on the CPU, one by default."""
    return [Slot(number=i, gpus=()) for i in range(most or 1)]


def _open(gpu: Gpu) -> int:
    """Open a GPU's lock file, which all users of the machine may write to."""
    folder = gpu_lock_folder()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise NotReady(
            f"The folder for GPU locks, {folder}, cannot be created: {error.strerror}. Name "
            "another: export PCAN_LOCKS=FOLDER"
        ) from None
    if folder.stat().st_uid == os.getuid():
        folder.chmod(0o1777)
    handle = _open_shared(folder / f"{gpu.uuid}.lock")
    if os.fstat(handle).st_uid == os.getuid():
        os.fchmod(handle, 0o666)
    return handle


def _open_shared(file: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(file, flags, 0o666)
        except PermissionError:
            # protected_regular forbids O_CREAT on others' files in sticky folders
            return os.open(file, flags & ~os.O_CREAT)
    except OSError as error:
        raise _no_lock(f"{file.name} cannot be opened ({error.strerror})") from None


def _no_lock(why: str) -> NotReady:
    return NotReady(
        f"GPUs cannot be locked in {gpu_lock_folder()}: {why}. Name a folder on a local disk that "
        "all users of this machine can write to: export PCAN_LOCKS=FOLDER"
    )


def _holder(handle: int) -> str:
    try:
        note = parsed(os.pread(handle, 4096, 0))  # anyone may have written it
        return f"pcan trial {note['trial']} (pid {note['pid']})"
    except (KeyError, TypeError):
        return "another pcan launch"
