"""Which parts of a config cannot be built: each is built or bound to its arguments, as in a job.

No data are read. What was inherited from a base config and does not belong to a new `type` shows
here, as do misspelled arguments.
"""

import copy
import difflib
import functools
import inspect
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from pipeline.train.left_out import REPLACED, kind_of, split_hooks
from pipeline.train.outcome import JobFailure, asks_for_gpu

#: Errors by which a part refuses what it is given.
REFUSALS = (TypeError, KeyError, ValueError, IndexError, AttributeError, AssertionError)
_DELETE = "To replace a part of a base config as a whole, write _delete_=True in it"
#: Stands for the iterations of an epoch, which are not known here.
_EPOCH_LENGTH = 100


def one_line(error: BaseException) -> str:
    """Return an error in one line, its own cause in place of what wraps it."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": .")


def refusal(place: str, build: Callable[[], Any]) -> Optional[str]:
    """Return why a part refuses its arguments, None if it can be built or that is not certain."""
    try:
        build()
    except REFUSALS as error:
        text = one_line(error)
        if asks_for_gpu(str(error)):
            return None
        hint = f" {_DELETE}." if "unexpected keyword" in text else ""
        return f"{place} cannot be built: {text}.{hint}"
    except Exception:  # it may need what only a job has: a process group, a device
        return None
    return None


def part_problems(cfg: Any, model: Any) -> List[str]:
    """Return a sentence for each part of a config that cannot be built."""
    found = list(_loop(cfg))
    for place, build in _builders(cfg, model):
        sentence = refusal(place, build)
        if sentence is not None:
            found.append(sentence)
    return found


def _loop(cfg: Any) -> Iterator[str]:
    loop = cfg.get("train_cfg") or {}
    if "type" in loop and "by_epoch" in loop:
        yield (
            f'train_cfg has type "{kind_of(loop)}" and by_epoch={loop["by_epoch"]}, one of them '
            "from a base config; MMEngine takes only one. Leave `type` out, or replace the whole: "
            "train_cfg=dict(_delete_=True, type=..., max_epochs=...)."
        )
    from pipeline.train.runner_config import check

    try:
        check(cfg)
    except JobFailure as failure:
        yield failure.reason


def _build_hook(hook: Dict[str, Any]) -> Any:
    from mmengine.registry import HOOKS

    return HOOKS.build(copy.deepcopy(hook))


def _builders(cfg: Any, model: Any) -> Iterator[Tuple[str, Callable[[], Any]]]:
    from mmengine.evaluator import Evaluator

    if cfg.get("optim_wrapper") is not None:  # the loop's own check says that there is none
        yield "optim_wrapper", lambda: _build_wrapper(model, plain_wrapper(cfg.optim_wrapper))
    yield "val_evaluator", lambda: Evaluator(copy.deepcopy(cfg.val_evaluator))
    yield "train_cfg", lambda: _bind_loop(cfg.get("train_cfg"), "EpochBasedTrainLoop", 2)
    yield "val_cfg", lambda: _bind_loop(cfg.get("val_cfg"), "ValLoop", 3)
    epochs = (cfg.get("train_cfg") or {}).get("max_epochs")
    for place, entry in _schedulers(cfg.get("param_scheduler")):
        yield place, functools.partial(_build_scheduler, entry, epochs)
    default, custom, _ = split_hooks(cfg)
    named = [(f"default_hooks.{name}", hook) for name, hook in default.items()]
    named += [(f"custom_hooks.{i}", hook) for i, hook in enumerate(custom)]
    for place, hook in named:
        if isinstance(hook, dict):
            yield place, functools.partial(_build_hook, hook)


def plain_wrapper(wrapper: Any) -> Any:
    """Return the optimizer's wrapper without mixed precision, which needs the job's device."""
    plain = copy.deepcopy(wrapper)
    if kind_of(plain) == "AmpOptimWrapper":
        plain["type"] = "OptimWrapper"
        for name in ("loss_scale", "dtype", "use_fsdp"):
            plain.pop(name, None)
    return plain


def _build_wrapper(model: Any, wrapper: Any) -> Any:
    """Build the optimizer; one that is not registered is named, which MMEngine does not."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import OPTIMIZERS

    kind = kind_of(wrapper.get("optimizer") or {})
    if isinstance(kind, str) and kind and OPTIMIZERS.get(kind) is None:
        known = sorted(OPTIMIZERS.module_dict)
        close = [name for name in known if name.lower() == kind.lower()]
        close = close or difflib.get_close_matches(kind, known, n=1)
        meant = f' Did you mean "{close[0]}"' if close else ""
        raise KeyError(f'no optimizer is registered as "{kind}".{meant}')
    return build_optim_wrapper(model, wrapper)


def _bind_loop(loop: Any, usual: str, given: int) -> None:
    """Bind a loop's arguments; raise TypeError if it does not take one, or lacks one.

    Args:
        usual: the loop without a `type`.
        given: how many arguments the Runner itself gives: itself, a loader, an evaluator.
    """
    import mmengine.runner  # noqa: F401  registers the loops
    from mmengine.registry import LOOPS

    arguments = {key: value for key, value in (loop or {}).items() if key != "by_epoch"}
    kind = arguments.pop("type", usual)
    made = LOOPS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(made):
        raise KeyError(f'no loop is registered as "{kind}"')
    names = ("runner", "dataloader", "evaluator")[:given]
    inspect.signature(made).bind(**dict.fromkeys(names), **arguments)


def _schedulers(entries: Any) -> Iterator[Tuple[str, Any]]:
    """Yield each entry with its place; one dict per optimizer is left to the job."""
    if isinstance(entries, dict):
        if "type" in entries:
            yield "param_scheduler", entries
    elif isinstance(entries, (list, tuple)):
        for index, entry in enumerate(entries):
            yield f"param_scheduler.{index}", entry


def _build_scheduler(entry: Dict[str, Any], epochs: Any) -> None:
    """Build one scheduler on an optimizer of its own, with the Runner's defaults."""
    import mmengine.optim  # noqa: F401  registers the schedulers
    import torch
    from mmengine.registry import PARAM_SCHEDULERS

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    by_epoch = entry.get("by_epoch", True)
    end = (epochs or 1) * (1 if by_epoch else _EPOCH_LENGTH)
    defaults = {"optimizer": optimizer, "epoch_length": _EPOCH_LENGTH}
    PARAM_SCHEDULERS.build({"end": end, **copy.deepcopy(entry)}, default_args=defaults)


def hooks_by_inheritance(cfg: Any) -> List[str]:
    """Return the kinds of hooks that inherit from one that a job leaves out."""
    from mmengine.registry import HOOKS

    default, custom, _ = split_hooks(cfg)
    found = []
    for hook in [*default.values(), *custom]:
        kind = hook.get("type") if isinstance(hook, dict) else None
        made = HOOKS.get(kind) if isinstance(kind, str) else kind
        if isinstance(made, type) and any(base.__name__ in REPLACED for base in made.__mro__):
            found.append(made.__name__)
    return found
