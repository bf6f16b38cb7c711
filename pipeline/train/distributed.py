"""What ranks exchange with each other; all of them also work in a single process."""

import datetime
import os
from typing import Any, Dict, List, Optional

import torch
import torch.distributed as dist

from pipeline.shared.rundir import MEETING

#: How long ranks wait for each other where the config does not say. The launch notices sooner
#: when a job stands, and says where; NCCL's own 10 minutes would end a start that takes longer.
TIMEOUT_S = 7200.0


def join(device: str, timeout_s: Optional[float] = None) -> bool:
    """Join the process group that torchrun set up, before MMEngine looks for one.

    MMEngine's own start always calls `torch.cuda.set_device`, which fails without CUDA; it
    skips that when a group is there already.

    Returns:
        Whether there is a group: False when the job was started without torchrun.
    """
    if "WORLD_SIZE" not in os.environ:
        return False
    wait = datetime.timedelta(seconds=TIMEOUT_S if timeout_s is None else timeout_s)
    options: Dict[str, Any] = {"timeout": wait}
    meeting = os.environ.get(MEETING)
    if meeting is not None:  # else as torchrun says: several machines, or started by hand
        ranks = int(os.environ["WORLD_SIZE"])
        store = dist.FileStore(meeting, ranks)
        options.update(store=store, rank=int(os.environ["RANK"]), world_size=ranks)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", **options)
    return True


def leave() -> None:
    """Leave the process group if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number among all ranks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of ranks, 1 without a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(value: Any) -> List[Any]:
    """Return every rank's `value`, in the order of ranks, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: List[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_flag(flag: bool) -> bool:
    """Return rank 0's `flag` on every rank."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    answer = torch.tensor([int(flag)], device=device)
    dist.broadcast(answer, src=0)
    return bool(answer.item())
