"""Random numbers that a resumed job draws exactly as an unbroken one.

A sample's augmentation depends on (seed, epoch, index) alone: not on how many data workers
there are, whether they persist from epoch to epoch (as MMAction2's configs have it), or
which attempt of the job is running. MMEngine by itself seeds the workers alike in every
epoch, and never again when they persist.
"""

import hashlib
import multiprocessing
import os
import random
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from pipeline.train.rank_process import die_with_parent


def allow_deterministic_products(config: Any) -> None:
    """Set what cuBLAS asks for where a config wants determinism, before the first product.

    MMEngine does not, and each training with `randomness.deterministic=True` ends on a GPU with
    torch's error, which names this variable.
    """
    if (config.get("randomness") or {}).get("deterministic"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class LoaderSeeds:
    """Seeds one DataLoader for each epoch; made once, before its workers start.

    Without workers the samples are drawn in the rank's own process, whose random state is
    part of the checkpoint: nothing is changed there.
    """

    def __init__(self, loader: DataLoader, seed: int, rank: int, name: str) -> None:
        self._loader = loader
        self._key = (seed, rank, name)
        # Shared with the workers, which may live through several epochs.
        self._epoch = multiprocessing.RawValue("q", 0)
        # A generator of its own: else the first use of a persistent loader, which happens
        # again after a resume, would draw from the rank's random state.
        loader.generator = torch.Generator()
        if loader.num_workers > 0:
            loader.worker_init_fn = WorkerStart(
                loader.worker_init_fn, _parent_of_workers(loader), seed, self._epoch
            )

    def begin(self, epoch: int) -> None:
        """Set the seeds of `epoch`; call it before the loader is iterated."""
        self._epoch.value = epoch
        self._loader.generator.manual_seed(_digest(*self._key, epoch) >> 1)


class WorkerStart:
    """What a data worker does first: die with its rank, and seed itself for each sample."""

    def __init__(
        self, first: Optional[Callable[[int], None]], parent: Optional[int], seed: int, epoch: Any
    ) -> None:
        self._first = first
        self._parent = parent
        self._seed = seed
        self._epoch = epoch

    def __call__(self, worker_id: int) -> None:
        die_with_parent(os.getppid() if self._parent is None else self._parent)
        if self._first is not None:
            self._first(worker_id)
        seed_everything(self._seed, self._epoch.value, "worker", worker_id)
        seed_each_sample(get_worker_info().dataset, self._seed, self._epoch)


def seed_each_sample(dataset: Any, seed: int, epoch: Any) -> None:
    """Make this process's `dataset` set all seeds before it draws a sample.

    The object keeps its identity and attributes; only its class is replaced by a subclass.
    """
    kind = type(dataset)
    if not hasattr(kind, "__getitem__"):
        return

    def draw(self: Any, index: Any) -> Any:
        seed_everything(seed, epoch.value, index)
        return kind.__getitem__(self, index)

    # `__getitems__` (a whole batch at once) is switched off so that each index is seeded.
    body = {"__getitem__": draw, "__getitems__": None, "__module__": kind.__module__}
    try:
        dataset.__class__ = type(kind.__name__, (kind,), body)
    except TypeError:
        return  # a compiled or slotted class; its worker stays seeded as at its start


def seed_everything(*key: Any) -> None:
    """Seed Python's, NumPy's and torch's generators of this process from `key`."""
    number = _digest(*key)
    random.seed(number)
    np.random.seed([number & 0xFFFFFFFF, number >> 32])
    # Not torch.manual_seed: that also queues a seed for CUDA, with a stack trace each time.
    torch.default_generator.manual_seed(number >> 1)


def _digest(*key: Any) -> int:
    """Return 64 well-mixed bits for a key of numbers and words."""
    text = repr(key).encode("utf-8")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _parent_of_workers(loader: DataLoader) -> Optional[int]:
    """Return the pid that a worker must see as its parent; None if a fork server starts it."""
    context = loader.multiprocessing_context or multiprocessing
    return None if context.get_start_method() == "forkserver" else os.getpid()
