"""Batch-norm statistics measured again, for weights that were put in place of the trained ones.

The running statistics belong to the weights of the last steps. For a mean of weights they are
taken from training clips, as training sees them: the mean over batches, with batch norm in
training mode and all else in evaluation mode, without a gradient.
"""

import contextlib
from typing import Any, Iterator, List

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from pipeline.train.distributed import rank, world_size
from pipeline.train.seeding import LoaderSeeds, seed_everything

#: Clips over all ranks; more changed no reading.
CLIPS = 128
#: Loader processes: they live for a few batches only.
MOST_WORKERS = 2


def trained_batch_norms(model: torch.nn.Module) -> List[_BatchNorm]:
    """Return the layers whose statistics training moves; leaves the model in training mode.

    A layer that the model keeps in evaluation mode while it trains is left alone.
    """
    model.train()
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    ]


def measure_again(runner: Any, model: torch.nn.Module, seed: int) -> None:
    """Replace the running statistics; call it on all ranks. Without batch norm nothing is read.

    Args:
        model: the runner's, without its data-parallel wrapper.
        seed: of the run; which clips are read follows from it and the epoch.
    """
    layers = trained_batch_norms(model)
    model.eval()
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.training = True
    with torch.no_grad(), _precision(runner):
        for batch in _batches(runner, seed):
            model._run_forward(model.data_preprocessor(batch, True), mode="loss")
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
    model.eval()


def _precision(runner: Any) -> "contextlib.AbstractContextManager[Any]":
    """Return the context in which the config trains: autocast where it asks for that."""
    wrapper = runner.optim_wrapper
    several = hasattr(wrapper, "optim_wrappers")  # each of several has a context of its own
    return contextlib.nullcontext() if several else wrapper.optim_context(runner.model)


def _batches(runner: Any, seed: int) -> Iterator[Any]:
    """Yield augmented training batches of this rank, from a loader of their own.

    The training's own loader is not touched: its processes may live through several epochs.
    """
    trained, epoch = runner.train_dataloader, runner.epoch
    indices = _indices(len(trained.dataset), seed, epoch)
    size = min(trained.batch_size or len(indices), len(indices))
    workers = min(trained.num_workers, MOST_WORKERS)
    loader: Any = DataLoader(
        trained.dataset,
        batch_size=size,
        sampler=indices,
        num_workers=workers,
        collate_fn=trained.collate_fn,
        drop_last=True,
        multiprocessing_context=trained.multiprocessing_context,
    )
    seeds = LoaderSeeds(loader, seed, rank(), "averaged")
    seed_everything(seed, "averaged", epoch, rank())
    seeds.begin(epoch)
    yield from loader


def _indices(size: int, seed: int, epoch: int) -> List[int]:
    """Return this rank's clips: as many on every rank, at least two, since one has no variance."""
    ranks = world_size()
    count = max(2, min(-(-CLIPS // ranks), size // ranks))
    generator = torch.Generator().manual_seed(seed + epoch)
    order = torch.randperm(size, generator=generator).tolist()
    return [order[(rank() + i * ranks) % size] for i in range(count)]
