"""Two faults that a job has on its device, for `benchmarks/gpu.py`; copied beside tests/jobs."""

import tempfile

import torch
import torch.distributed as dist
from mmengine.registry import MODELS

from tiny_parts import TinyModel


@MODELS.register_module()
class DeviceFaultsModel(TinyModel):
    """The tiny model, with `fault.kind` also "allocate" and "alone"."""

    def _fault_allocate(self):
        """Ask for a pebibyte on the device of the weights."""
        torch.empty(1 << 50, dtype=torch.uint8, device=self._device())

    def _fault_alone(self):
        """Enter a sum over two ranks of which the other never comes."""
        device = self._device()
        store = dist.FileStore(f"{tempfile.mkdtemp()}/meeting", 2)
        kind = dist.ProcessGroupNCCL if device.type == "cuda" else dist.ProcessGroupGloo
        kind(store, 0, 2).allreduce([torch.ones(1, device=device)]).wait()
        torch.zeros(1, device=device).item()  # NCCL's wait is the stream's, not the host's

    def _device(self):
        return next(self.parameters()).device
