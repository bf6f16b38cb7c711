"""One set of weights from several: the mean of checkpoints, or over a training's later steps.

What is averaged is what `weight_sums` averages: parameters, and buffers that a module names in
`averaged_buffers` (PCAN's prototypes). All other buffers come from the first checkpoint;
batch-norm statistics are measured again afterwards (`batch_statistics`).
"""

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Sequence

import torch

from pipeline.train import checkpoints
from pipeline.train.averaged_weights import LATER
from pipeline.train.tools.tool import ToolError
from pipeline.train.weight_sums import averaged_tensors


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """A checkpoint, or the mean over the later steps that is kept in it (`later`)."""

    checkpoint: Path
    later: bool = False

    @classmethod
    def from_json(cls, record: Dict[str, Any]) -> "WeightSource":
        return cls(Path(record["checkpoint"]), bool(record.get("later")))


def needs_statistics(sources: Sequence[WeightSource]) -> bool:
    """Whether training itself has never had these weights."""
    return len(sources) > 1 or sources[0].later


def put_mean(model: torch.nn.Module, sources: Sequence[WeightSource]) -> None:
    """Put the mean of several sources into a model, without batch-norm statistics of its own.

    Raises:
        ToolError: a checkpoint does not fit the model, or lacks the mean that is asked for.
    """
    totals: Dict[str, torch.Tensor] = {}
    for number, source in enumerate(sources):
        content = read(source.checkpoint)
        if number == 0:
            _load(model, content["state_dict"], source)
        for name, values in _tensors(model, content, source).items():
            summed = totals.get(name)
            totals[name] = values if summed is None else summed + values
    with torch.no_grad():
        for name, tensor in averaged_tensors(model):
            tensor.copy_((totals[name] / len(sources)).to(tensor.dtype))


def read(checkpoint: Path) -> Dict[str, Any]:
    """Return a checkpoint's content; raise ToolError for a damaged one."""
    from pipeline.train.outcome import JobFailure

    try:
        return checkpoints.read(checkpoint)
    except JobFailure as failure:
        raise ToolError(failure.reason) from failure


def later_epochs(content: Dict[str, Any]) -> List[int]:
    """Return first and last epoch of the mean that a checkpoint keeps, [] without one."""
    kept = content.get(LATER) or {}
    steps = [int(one["steps"]) for one in kept.values()]
    if not steps or not steps[0]:
        return []
    return [int(next(iter(kept))) // 2 + 1, int(content["meta"]["epoch"])]


def _tensors(
    model: torch.nn.Module, content: Dict[str, Any], source: WeightSource
) -> Dict[str, torch.Tensor]:
    """Return what is averaged of one source, in double precision, by name."""
    names = [name for name, _ in averaged_tensors(model)]
    found = content["state_dict"]
    if source.later:
        kept = next(iter((content.get(LATER) or {}).values()), None)
        if kept is None:
            raise ToolError(f"{source.checkpoint} keeps no mean over the later epochs.")
        found = {name: total / kept["steps"] for name, total in kept["sums"].items()}
    sizes = {name: tuple(t.shape) for name, t in averaged_tensors(model)}
    unfit = [n for n in names if n not in found or tuple(found[n].shape) != sizes[n]]
    if unfit:
        raise ToolError(f"{source.checkpoint} does not fit the model: {unfit[0]}.")
    return {name: found[name].double() for name in names}


def _load(model: torch.nn.Module, tensors: Dict[str, Any], source: WeightSource) -> None:
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise ToolError(f"{source.checkpoint} does not fit the model: {first}") from error
