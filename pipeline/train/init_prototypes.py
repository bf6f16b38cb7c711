"""Prototypes for a warm start whose file has none: class means of training clips.

Each rank takes its share of the clips; the means are the same everywhere. They are kept
beside the checkpoint under a name that holds a digest of all they depend on.
"""

import contextlib
import copy
import hashlib
import os
import random
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import numpy as np
import torch
from mmengine import dist
from torch import Tensor

from pipeline.shared.files import replacing
from pipeline.train.checkpoint_file import CheckpointError, read_checkpoint

#: Clips that a class's mean is taken over, at most.
CLIPS_PER_CLASS = 20


def init_prototypes(runner: Any, model: Any, checkpoint: str, matched: Set[str]) -> Dict[str, str]:
    """Fill the prototype banks that the checkpoint lacks; return how each began.

    Args:
        model: without its data-parallel wrapper, weights loaded.
        matched: names that came from the checkpoint.

    Returns:
        By bank: "from the checkpoint", or over how many clips its means were taken.
    """
    head = getattr(model, "cls_head", None)
    if not hasattr(head, "calibration_features"):
        return {}
    banks = _banks(head)
    missing = [name for name in banks if f"cls_head.{name}.prototypes" not in matched]
    origin = {name: "from the checkpoint" for name in banks}
    if not missing:
        return origin
    store = Path(f"{checkpoint}.prototypes-{_digest(runner.cfg, model)}.pth")
    means = _cached(store, head)
    how = f"class means kept in {store.name}"
    if means is None:
        means, clips = _class_means(runner.cfg, model)
        how = f"class means over {clips} training clips, at most {CLIPS_PER_CLASS} a class"
        how += _keep(store, means)
    for name in missing:
        getattr(head, name).prototypes.copy_(means[name])
        origin[name] = how
    return origin


def _banks(head: Any) -> Dict[str, Tensor]:
    """Return the head's prototypes by the name of their bank."""
    children = head.named_children()
    return {name: bank.prototypes for name, bank in children if name.startswith("prototypes_")}


def _class_means(cfg: Any, model: Any) -> Any:
    """Return the means by bank, and the number of clips; classes without a clip stay random."""
    dataset = _dataset(cfg)
    chosen = _spread(dataset)
    head, device = model.cls_head, next(model.parameters()).device
    banks = {
        name: bank.prototypes for name, bank in head.named_children() if hasattr(bank, "moved")
    }
    sums = {name: torch.zeros_like(old, dtype=torch.float64) for name, old in banks.items()}
    counts = {name: sums[name].new_zeros(len(sums[name])) for name in banks}
    with _evaluating(model), torch.no_grad():
        for data in _loader(cfg, dataset, chosen[dist.get_rank() :: dist.get_world_size()]):
            data = model.data_preprocessor(data, False)
            feats, _ = model.extract_feat(data["inputs"])
            labels = torch.cat([s.gt_label.reshape(1) for s in data["data_samples"]]).to(device)
            labels = labels.repeat_interleave(len(feats[0]) // len(labels))
            for name, found in head.calibration_features(feats).items():
                classes = head.parents[labels] if name.endswith("_coarse") else labels
                sums[name].index_add_(0, classes, found.double())
                counts[name].index_add_(0, classes, torch.ones_like(found[:, 0]).double())
    means = {}
    for name, old in banks.items():
        dist.all_reduce(sums[name])
        dist.all_reduce(counts[name])
        seen = counts[name][:, None]
        mean = (sums[name] / seen.clamp(min=1)).to(old.dtype)
        means[name] = torch.where(seen > 0, mean, old)
    return means, len(chosen)


def _dataset(cfg: Any) -> Any:
    """Build the training clips with the validation's deterministic pipeline."""
    from mmaction.registry import DATASETS

    settings = copy.deepcopy(_innermost(cfg.train_dataloader.dataset))
    validation = cfg.get("val_dataloader")
    if validation is not None:
        settings["pipeline"] = copy.deepcopy(_innermost(validation.dataset)["pipeline"])
        settings["test_mode"] = True
    return DATASETS.build(settings)


def _innermost(settings: Any) -> Any:
    """Look through wrappers such as RepeatDataset."""
    while "pipeline" not in settings and "dataset" in settings:
        settings = settings["dataset"]
    return settings


def _spread(dataset: Any) -> List[int]:
    """Choose clips of each class, spread evenly over the annotation file's order.

    The first ones would often be all of one person.
    """
    by_class: Dict[int, List[int]] = {}
    for index in range(len(dataset)):
        by_class.setdefault(int(dataset.get_data_info(index)["label"]), []).append(index)
    chosen: List[int] = []
    for label in sorted(by_class):
        clips = by_class[label]
        count = min(CLIPS_PER_CLASS, len(clips))
        chosen += [clips[i * len(clips) // count] for i in range(count)]
    return chosen


def _loader(cfg: Any, dataset: Any, chosen: List[int]) -> Any:
    from mmengine.dataset import pseudo_collate

    return torch.utils.data.DataLoader(
        torch.utils.data.Subset(dataset, chosen),
        batch_size=cfg.train_dataloader.get("batch_size", 1),
        num_workers=cfg.train_dataloader.get("num_workers", 0),
        collate_fn=pseudo_collate,
        generator=torch.Generator(),  # workers' seeds, not drawn from the training's
    )


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch to evaluation, and leave no trace in the training that follows.

    MMAction2's test-time sampling reseeds NumPy; with kept means that would not happen, and
    two starts of one trial would train on different clips.
    """
    training, numpy_state, python_state = model.training, np.random.get_state(), random.getstate()
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _digest(cfg: Any, model: Any) -> str:
    """Digest all that the means depend on: weights, clips and how they are read."""
    digest = hashlib.sha256(str(CLIPS_PER_CLASS).encode())
    for name, value in model.state_dict().items():
        if name.startswith("backbone.") or ".project." in name:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    train = _innermost(cfg.train_dataloader.dataset)
    validation = cfg.get("val_dataloader")
    pipeline = "" if validation is None else _innermost(validation.dataset)["pipeline"]
    shown = (train, pipeline, cfg.model.get("data_preprocessor"))
    digest.update(repr(shown).encode())
    with contextlib.suppress(OSError):
        state = os.stat(train.get("ann_file", ""))
        digest.update(repr((state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()[:12]


def _cached(store: Path, head: Any) -> Any:
    """Return kept means if rank 0 finds them whole, the same on every rank; else None."""
    banks = {
        name: bank.prototypes for name, bank in head.named_children() if hasattr(bank, "moved")
    }
    held: Dict[str, Tensor] = {}
    if dist.get_rank() == 0 and store.is_file():
        with contextlib.suppress(CheckpointError):
            held = read_checkpoint(store)
    fits = all(name in held and held[name].shape == old.shape for name, old in banks.items())
    some = next(iter(banks.values()))
    found = torch.tensor([float(fits)], device=some.device)
    dist.broadcast(found)
    if found.item() == 0:
        return None
    means = {}
    for name, old in banks.items():
        means[name] = held[name].to(old) if fits else torch.empty_like(old)
        dist.broadcast(means[name])
    return means


def _keep(store: Path, means: Dict[str, Tensor]) -> str:
    """Write the means beside the checkpoint; return what is to be added to the report."""
    if dist.get_rank() != 0:
        return ""
    try:
        with replacing(store) as stream:
            torch.save({name: mean.cpu() for name, mean in means.items()}, stream)
    except OSError as error:
        return f" (not kept beside the checkpoint: {error.strerror})"
    return f" (kept in {store.name})"
