"""Read the averaged weights at a search's checks, and leave no trace of it in the run.

At a high learning rate the mean of the weights over the later half of the epochs shows what a
trial has learned; the weights themselves hide it until the schedule comes down. The value only
ranks trials: it is not a result, and its weights are not kept. The sum over the later half of the
whole training is another matter: checkpoints of such a trial keep it, for `pcan sweep refine`
(decisions/060). How the mean is defined, and what of PCAN and of a user's own hooks it touches:
docs/decisions/044.
"""

import contextlib
from typing import Any, Dict, Iterator, List

import torch
from mmengine.hooks import Hook

from pipeline.shared.spec import TrialSpec
from pipeline.train import training_state
from pipeline.train.batch_statistics import measure_again
from pipeline.train.weight_sums import WeightSums

#: The open sums in a checkpoint; absent where none is open.
KEY = "averaged_weights"
#: The sum over the later half of the whole training, kept to its end and never read here.
LATER = "later_weights"


class AveragedWeightsHook(Hook):
    """Sums the weights after each optimizer step, and validates their mean at a check.

    Args:
        hooks: those that a reading needs: seeds, buffers of all ranks, progress. No other
            hook learns of it.
    """

    priority = "LOWEST"

    def __init__(self, spec: TrialSpec, hooks: List[Hook]) -> None:
        self._metric = spec.metric
        self._resumes = spec.resume is not None
        self._sums = WeightSums(spec.averaged_checks)
        # Costs a copy of the weights in memory and in each checkpoint: not where none is read.
        last = spec.epochs or 0
        self._later = WeightSums([last] if spec.averaged_checks and last > 1 else [])
        self._hooks = hooks

    def before_train_epoch(self, runner: Any) -> None:
        for sums in (self._sums, self._later):
            sums.begin_epoch(runner.epoch + 1)

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        if stepped(runner.optim_wrapper):
            for sums in (self._sums, self._later):
                sums.add(training_state.bare_model(runner))

    def before_save_checkpoint(self, _runner: Any, checkpoint: Dict[str, Any]) -> None:
        for key, sums in ((KEY, self._sums), (LATER, self._later)):
            state = sums.state()
            if state:
                checkpoint[key] = state

    def after_load_checkpoint(self, _runner: Any, checkpoint: Dict[str, Any]) -> None:
        if self._resumes:
            self._sums.restore(checkpoint.get(KEY) or {})
            self._later.restore(checkpoint.get(LATER) or {})

    def is_due(self, epoch: int) -> bool:
        """Whether the mean of the epochs up to this one is to be read."""
        return self._sums.complete(epoch)

    def forget_until(self, epoch: int) -> None:
        """Forget what was read, or can no longer be."""
        self._sums.forget_until(epoch)

    def read(self, runner: Any) -> float:
        """Return the objective of the averaged weights; call it on all ranks.

        Weights, buffers, random state and hooks are afterwards as they were before.
        """
        model = training_state.bare_model(runner)
        averaged = self._sums.take(runner.epoch)
        with _unchanged(model), _only_hooks(runner, self._hooks):
            averaged.put_into(model)
            measure_again(runner, model, int(runner.seed))
            metrics = runner.val_loop.run()
        return float(metrics[self._metric])


def stepped(wrapper: Any) -> bool:
    """Whether the last iteration ended with an optimizer step: not while gradients accumulate."""
    several = getattr(wrapper, "optim_wrappers", {"": wrapper})  # of OptimWrapperDict
    return any(one.should_update() for one in several.values())


@contextlib.contextmanager
def _unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Put weights, buffers, modes and this process's random state back."""
    tensors = {name: tensor.detach().clone() for name, tensor in _tensors(model)}
    modes = [(module, module.training) for module in model.modules()]
    learned = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    random_state = training_state.random_state()
    try:
        yield
    finally:
        for name, tensor in _tensors(model):
            tensor.detach().copy_(tensors[name])
        for module, training in modes:
            module.training = training
        for parameter, wanted in learned:
            parameter.requires_grad_(wanted)
        training_state.restore_random(random_state)


def _tensors(model: torch.nn.Module) -> Iterator[Any]:
    """Yield name and tensor of all parameters and buffers, those of no checkpoint too."""
    yield from model.named_parameters()
    yield from model.named_buffers()


@contextlib.contextmanager
def _only_hooks(runner: Any, hooks: List[Hook]) -> Iterator[None]:
    """Let only these hooks learn of a validation.

    Loggers, averages of a user's own (EMAHook puts its weights in for a validation) and
    schedulers that step on a metric must not take it for one of the run's.
    """
    before = runner._hooks
    runner._hooks = hooks
    try:
        yield
    finally:
        runner._hooks = before
