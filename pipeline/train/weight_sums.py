"""Sums of a model's weights over the steps before a search's checks; their mean is read there.

Single precision, whatever the weights have. What is summed beside the parameters are the buffers
that a module names in `averaged_buffers`: state that training moves a little with every step, as
it does a weight (PCAN's prototypes). Batch-norm statistics are not: they are measured again for
the mean (`batch_statistics.py`).
"""

import dataclasses
from typing import Any, Dict, Iterator, Mapping, Sequence, Tuple

import torch


def first_epoch(check: int) -> int:
    """Return the first of the epochs over which the mean for a check is taken: the later half."""
    return check // 2 + 1


def averaged_tensors(model: torch.nn.Module) -> Iterator[Tuple[str, torch.Tensor]]:
    """Yield name and tensor of everything that is averaged."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            yield name, parameter
    for place, module in model.named_modules():
        for own in getattr(module, "averaged_buffers", ()):
            yield f"{place}.{own}" if place else own, getattr(module, own)


@dataclasses.dataclass
class WeightSum:
    """The sum for one check, by name, and of how many steps it is."""

    tensors: Dict[str, torch.Tensor]
    steps: int = 0

    def add(self, model: torch.nn.Module) -> None:
        """Add the weights as they are now."""
        for name, tensor in averaged_tensors(model):
            values = tensor.detach().float()
            total = self.tensors.get(name)
            # What a checkpoint brought lies on the CPU.
            self.tensors[name] = (
                values.clone() if total is None else total.to(values.device).add_(values)
            )
        self.steps += 1

    def put_into(self, model: torch.nn.Module) -> None:
        """Replace the model's weights by the mean."""
        for name, tensor in averaged_tensors(model):
            total = self.tensors[name].to(tensor.device)
            tensor.detach().copy_(total / self.steps)


class WeightSums:
    """The open sums of a run, by check.

    Args:
        checks: the epochs after which a mean is read. Of the usual ones at most two sums are open
            at a time, and each is as large as the model.
    """

    def __init__(self, checks: Sequence[int] = ()) -> None:
        self._checks = tuple(checks)
        self._open: Dict[int, WeightSum] = {}

    def begin_epoch(self, epoch: int) -> None:
        """Open the sums that begin with this epoch; none is begun later."""
        for check in self._checks:
            if first_epoch(check) == epoch:
                self._open[check] = WeightSum({})

    def add(self, model: torch.nn.Module) -> None:
        """Add the weights to all open sums."""
        for one in self._open.values():
            one.add(model)

    def complete(self, epoch: int) -> bool:
        """Whether the mean for a check after this epoch is there."""
        return epoch in self._open and self._open[epoch].steps > 0

    def take(self, epoch: int) -> WeightSum:
        """Return the sum for a check and forget it."""
        return self._open.pop(epoch)

    def forget_until(self, epoch: int) -> None:
        """Forget sums whose check has passed."""
        self._open = {check: one for check, one in self._open.items() if check > epoch}

    def state(self) -> Dict[str, Any]:
        """Return the open sums for a checkpoint; empty where none is open."""
        return {
            str(check): {"steps": one.steps, "sums": dict(one.tensors)}
            for check, one in self._open.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` returned, as far as these checks are still to come."""
        self._open = {
            int(check): WeightSum(dict(one["sums"]), int(one["steps"]))
            for check, one in state.items()
            if int(check) in self._checks
        }
