"""The whole state of a training run: taken at the end of an epoch, put back on a resume.

Of every rank: the state of its random generators, and its buffers where they differ from
rank 0's (batch-norm statistics do, unless the config synchronises them).
"""

import dataclasses
import hashlib
import random
from typing import Any, Dict, List, Optional

import numpy as np
import torch
from mmengine.model import is_model_wrapper

from pipeline.shared.counted import counted
from pipeline.shared.files import timestamp
from pipeline.shared.measurement import Measurement
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Cause
from pipeline.train import checkpoints
from pipeline.train.distributed import gather, rank
from pipeline.train.outcome import JobFailure


def bare_model(runner: Any) -> torch.nn.Module:
    """Return the runner's model without its data-parallel wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def rank_state(runner: Any) -> List[Dict[str, Any]]:
    """Collect from every rank what is its own. All ranks have to call this together."""
    buffers = _buffers(bare_model(runner))
    state = {"random": random_state(), "buffers": _fingerprint(buffers)}
    ranks = gather(state)
    if all(entry["buffers"] == ranks[0]["buffers"] for entry in ranks):
        own: List[Optional[Dict[str, torch.Tensor]]] = [None] * len(ranks)
    else:
        own = gather(buffers)
    return [{"random": r["random"], "buffers": b} for r, b in zip(ranks, own)]


def take(
    runner: Any,
    spec: TrialSpec,
    ranks: List[Dict[str, Any]],
    measurement: Optional[Measurement],
) -> Dict[str, Any]:
    """Return the checkpoint of the epoch that has just ended.

    Uses MMEngine's names where it has some: the file also serves as its `load_from`.
    """
    content = {
        "schema": checkpoints.SCHEMA,
        "meta": {
            "epoch": runner.epoch,
            "iter": runner.iter,
            "config_hash": spec.config_hash,
            "variant": spec.variant,
            "seed": runner.seed,
            "nproc": len(ranks),
            "attempt": spec.attempt,
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "time": timestamp(),
        },
        "state_dict": bare_model(runner).state_dict(),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": _scheduler_states(runner.param_schedulers),
        "ranks": ranks,
        "measurement": dataclasses.asdict(measurement) if measurement else None,
    }
    # Hooks that carry state of their own (an average of the weights) add it here.
    runner.call_hook("before_save_checkpoint", checkpoint=content)
    return checkpoints.plain(content)


def restore(runner: Any, spec: TrialSpec, content: Dict[str, Any]) -> None:
    """Put a checkpoint back, all but the random state; raise JobFailure if it is not ours."""
    _check_origin(spec, content)
    runner.call_hook("after_load_checkpoint", checkpoint=content)
    own = content["ranks"][rank()]["buffers"]
    weights = content["state_dict"]
    if own:
        weights.update(own)
    try:
        bare_model(runner).load_state_dict(weights, strict=True)
        runner.optim_wrapper.load_state_dict(content["optimizer"])
        _restore_schedulers(runner.param_schedulers, content["param_schedulers"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise JobFailure(
            Cause.CHECKPOINT_REFUSED,
            f"{spec.resume} is whole, but does not fit what the code builds now: "
            f"{first_line(error)} If the code has changed, put back what wrote it (commit and "
            "diff: starts.jsonl); to train it from the beginning, move its run directory away",
        ) from error
    runner.train_loop._epoch = content["meta"]["epoch"]
    runner.train_loop._iter = content["meta"]["iter"]


def first_line(error: BaseException) -> str:
    """Return an error's text in one line, or its kind where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:500] or type(error).__name__


def _check_origin(spec: TrialSpec, content: Dict[str, Any]) -> None:
    meta = content["meta"]
    if meta["config_hash"] != spec.config_hash:
        raise JobFailure(
            Cause.CHECKPOINT_REFUSED,
            f"The checkpoint {spec.resume} was written with another config "
            f"({meta['config_hash']}, this trial has {spec.config_hash}): is it of another trial?",
        )
    if meta["nproc"] != spec.nproc:
        raise JobFailure(
            Cause.CHECKPOINT_REFUSED,
            f"The checkpoint {spec.resume} was written by "
            f"{counted(meta['nproc'], 'process', 'processes')}, "
            f"this job has {spec.nproc}; a resumed training would differ from an unbroken one.",
        )


def random_state() -> Dict[str, Any]:
    """Return the state of this process's random generators in plain form."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state()
    kind, keys, position, has_gauss, cached = legacy
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "python": {"version": version, "state": torch.tensor(numbers), "gauss": gauss},
        "numpy": {
            "kind": kind,
            "state": torch.from_numpy(keys.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
    }


def restore_random(state: Dict[str, Any]) -> None:
    """Put back what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["state"].tolist()), python["gauss"]))
    keys = numpy["state"].numpy().astype(np.uint32)
    np.random.set_state(
        (numpy["kind"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"])
    )


def _buffers(model: torch.nn.Module) -> Dict[str, torch.Tensor]:
    parameters = {name for name, _ in model.named_parameters()}
    return {
        name: value.detach().cpu()
        for name, value in model.state_dict().items()
        if name not in parameters and isinstance(value, torch.Tensor)
    }


def _fingerprint(tensors: Dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode("utf-8"))
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _scheduler_states(schedulers: Any) -> Any:
    if isinstance(schedulers, dict):
        return {name: _scheduler_states(group) for name, group in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers or []]


def _restore_schedulers(schedulers: Any, states: Any) -> None:
    if isinstance(schedulers, dict):
        for name, group in schedulers.items():
            _restore_schedulers(group, states[name])
        return
    built = schedulers or []
    if len(built) != len(states):
        raise ValueError(f"{len(states)} schedulers in the checkpoint, {len(built)} in the config")
    for scheduler, state in zip(built, states):
        scheduler.load_state_dict(state)
