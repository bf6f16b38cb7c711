"""One training step of a config on the CPU, from a sample that passed the chain.

Only what every such step would meet counts: shapes, labels and arguments that do not fit, a batch
that a normalisation cannot take, parameters without a gradient. Parts of a user may read the state
of a training, which there is none of here; their other errors are left to the job.
"""

import copy
import re
import threading
import traceback
from typing import Any, Callable, Dict, List, Optional

from pipeline.train.config_parts import one_line, plain_wrapper
from pipeline.train.epoch_shape import EpochShape
from pipeline.train.left_out import kind_of
from pipeline.train.speed_config import precision_of

#: Of NumPy's error, which has no such type on any device.
_NOT_IN_BF16 = "unsupported ScalarType BFloat16"
#: By class, texts of errors that do not depend on the state of a training.
_CERTAIN = {
    RuntimeError: r"size|shape|running_mean|channel|dimension|expected .* input|"
    r"does not require grad|class values must be|out of bounds|out of range in self",
    IndexError: r"Target .* is out of bounds|out of range in self",
    TypeError: r"unexpected keyword argument|required positional argument|" + _NOT_IN_BF16,
}
#: A normalisation in training mode that is given a single value.
ONE_VALUE = re.compile(r"Expected more than 1 value per channel")
#: A step that takes longer than this is not cheap: nothing is said about it.
LIMIT_S = 30.0
_NAMED = 3


def step_problems(cfg: Any, model: Any, collate: Any, sample: Any, shape: EpochShape) -> List[str]:
    """Return what the first and the smallest batch of an epoch would end with.

    Args:
        collate: makes a batch of samples.
        shape: of an epoch of training.
    """
    step = _Step(cfg, model, collate, sample)
    error = step.run(2)
    if error is not None:
        return [_sentence(error)] if _is_certain(error) else []
    found = _unused(cfg, step.unused, shape.ranks) if step.done else []
    if shape.smallest_batch == 1 and step.done:
        error = step.run(1)
        if error is not None and ONE_VALUE.search(str(error)):
            found.append(
                f"train_dataloader: a batch of an epoch has one sample ({shape.text()}), which a "
                "batch normalisation in training cannot take. Set drop_last=True, or a batch_size "
                "that leaves no single sample."
            )
    return found


def _sentence(error: BaseException) -> str:
    if _NOT_IN_BF16 not in str(error):
        return f"the first training step does not succeed: {one_line(error)}."
    return (
        f"the first training step in bf16 does not succeed: {_part_of(error)} cannot compute in "
        f"it ({one_line(error)}). Leave out `amp: bf16` of job.speed, or the AmpOptimWrapper of "
        "the config if it is its own. PCANHead trains in bf16; on a GPU `amp: fp16` is the other "
        "choice."
    )


def _part_of(error: BaseException) -> str:
    """Return the innermost module of the model in whose method an error arose."""
    import torch

    frames = traceback.walk_tb(error.__traceback__)
    owners = [frame.f_locals.get("self") for frame, _ in frames]
    parts = [type(one).__name__ for one in owners if isinstance(one, torch.nn.Module)]
    return parts[-1] if parts else "the model"


def _is_certain(error: BaseException) -> bool:
    return any(
        isinstance(error, kind) and re.search(text, str(error), re.I)
        for kind, text in _CERTAIN.items()
    )


def _unused(cfg: Any, names: List[str], ranks: int) -> List[str]:
    """Return a sentence on parameters without a gradient, which ranks that train together need."""
    wrapper = cfg.get("model_wrapper_cfg") or {}
    finds = cfg.get("find_unused_parameters") or wrapper.get("find_unused_parameters")
    other = kind_of(wrapper) not in ("", "dict", "MMDistributedDataParallel")
    if ranks < 2 or not names or finds or other or wrapper.get("static_graph"):
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [
        f"the loss does not depend on {', '.join(names[:_NAMED])}{more}; ranks that train "
        "together need a gradient of every parameter. Write find_unused_parameters=True in the "
        "config, or freeze them (requires_grad=False)."
    ]


class _Step:
    """Runs training steps of a model; each in a thread, so that a slow one can be given up."""

    def __init__(self, cfg: Any, model: Any, collate: Any, sample: Any) -> None:
        from mmengine.optim import build_optim_wrapper

        from pipeline.train.speed import CpuAmpOptimWrapper

        self.done = False
        self.unused: List[str] = []
        self._model, self._collate, self._sample = model, collate, sample
        wrapper = plain_wrapper(cfg.optim_wrapper)
        if "bf16" in precision_of(cfg):  # the CPU has it too
            wrapper["type"] = CpuAmpOptimWrapper.__name__
        self._wrapper = build_optim_wrapper(model, wrapper)
        # Gradients are looked at after the step.
        self._clear, self._wrapper.zero_grad = self._wrapper.zero_grad, lambda **_: None

    def run(self, samples: int) -> Optional[BaseException]:
        """Make a step on copies of the sample; return its error, None if there is none."""
        self.done = False
        return within(LIMIT_S, lambda: self._run(samples))

    def _run(self, samples: int) -> None:
        batch = self._collate([copy.deepcopy(self._sample) for _ in range(samples)])
        self._model.train()
        self._clear()
        self._model.train_step(batch, self._wrapper)
        named = self._model.named_parameters()
        self.unused = [name for name, p in named if p.requires_grad and p.grad is None]
        self.done = True


def within(seconds: float, function: Callable[[], None]) -> Optional[BaseException]:
    """Call a function in a thread; return its error, None without one or if it takes longer."""
    found: Dict[str, BaseException] = {}

    def call() -> None:
        try:
            function()
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return found.get("error")
