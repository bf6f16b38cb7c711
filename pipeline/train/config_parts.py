"""Which parts of a config cannot be built: each is built or bound to its arguments, as in a job.

No data are read. What was inherited from a base config and does not belong to a new `type` shows
here, as do misspelled arguments.
"""

import copy
import difflib
import functools
import inspect
import os
import re
import traceback
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from pipeline.train.left_out import REPLACED, kind_of, split_hooks
from pipeline.train.outcome import JobFailure, asks_for_gpu

#: Errors by which a part refuses what it is given.
REFUSALS = (TypeError, KeyError, ValueError, IndexError, AttributeError, AssertionError)
_DELETE = "To replace a part of a base config as a whole, write _delete_=True in it"
_ELSEWHERE = "in custom_imports, or the checkout that has it as job.code_root"
#: Endings of files of weights; a model of a project's own may take other texts for names.
_WEIGHTS = (".pth", ".pt", ".pyth", ".ckpt", ".bin", ".safetensors")
#: Stands for the iterations of an epoch, which are not known here.
_EPOCH_LENGTH = 100


def one_line(error: BaseException) -> str:
    """Return an error in one line, its own cause in place of what wraps it."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    frames = traceback.extract_tb(error.__traceback__)
    if not lines and isinstance(error, AssertionError) and frames:
        place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"
        lines = [f"{place} has `{frames[-1].line}`"]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": .")


def of_a_checkout(text: str) -> str:
    """Return an error in words if it says that a part is not that of the user's own MMAction2.

    Other errors are returned as they are, and those of a checkout's own parts too.
    """
    import mmaction

    unknown = re.search(r"'(\w+) is not in the \S+ registry", text)
    if unknown is not None:
        return _undefined(unknown.group(1))
    other = "unexpected keyword argument" in text or "AssertionError: " in text
    if other and not _from_checkout():
        return (
            f"{text}, in the installed MMAction2 {mmaction.__version__}. If it is another one in "
            "your own checkout, name that as job.code_root"
        )
    return text


def refusal(place: str, build: Callable[[], Any]) -> Optional[str]:
    """Return why a part refuses its arguments, None if it can be built or that is not certain."""
    try:
        build()
    except REFUSALS as error:
        text = one_line(error)
        if asks_for_gpu(str(error)):
            return None
        text = of_a_checkout(text).rstrip(".")
        hint = f" {_DELETE}." if "unexpected keyword" in text else ""
        return f"{place} cannot be built: {text}.{hint}"
    except Exception:  # it may need what only a job has: a process group, a device
        return None
    return None


def part_problems(cfg: Any, model: Any) -> List[str]:
    """Return a sentence for each part of a config that cannot be built."""
    found = [*_loop(cfg), *missing_weights(cfg.get("model"), "model")]
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


def unregistered_data(cfg: Any) -> List[str]:
    """Return a sentence on the data sets and transforms that nothing defines, if there are some.

    Where samples are read, they say so themselves. Imports MMAction2's whole sample chain.
    """
    import mmaction.datasets  # noqa: F401  registers MMAction2's own
    from mmengine.registry import DATASETS, TRANSFORMS

    unknown: Dict[str, str] = {}
    for loader in ("train_dataloader", "val_dataloader"):
        for place, registry, part in _data_parts(cfg.get(loader), loader, DATASETS, TRANSFORMS):
            kind = part.get("type") if isinstance(part, dict) else None
            with registry.switch_scope_and_registry(None) as current:
                if isinstance(kind, str) and current.get(kind) is None:
                    unknown.setdefault(kind, place)
    if not unknown:
        return []
    listed = ", ".join(f"{kind} ({place})" for kind, place in unknown.items())
    return [_undefined(listed)]


def _undefined(names: str) -> str:
    """Return what to do about parts that no module defines."""
    where = "in custom_imports" if _from_checkout() else _ELSEWHERE
    return f"no module that is imported defines {names}. Name the module that does {where}."


def _from_checkout() -> bool:
    """Whether MMAction2 is not an installed one."""
    import mmaction

    return "site-packages" not in str(mmaction.__file__)


def _data_parts(loader: Any, place: str, sets: Any, steps: Any) -> Iterator[Tuple[str, Any, Any]]:
    """Yield each data set of a loader and each step of its chain: place, registry, entry."""
    dataset, path = (loader or {}).get("dataset"), f"{place}.dataset"
    while isinstance(dataset, dict):
        yield path, sets, dataset
        chain = dataset.get("pipeline")
        for index, step in enumerate(chain if isinstance(chain, (list, tuple)) else ()):
            yield f"{path}.pipeline.{index}", steps, step
        dataset, path = dataset.get("dataset"), f"{path}.dataset"


def missing_weights(part: Any, place: str) -> Iterator[str]:
    """Yield the files of weights that parts of the model begin with and that are not there.

    A job initialises its model also where it starts from other weights.
    """
    if isinstance(part, (list, tuple)):
        for index, one in enumerate(part):
            yield from missing_weights(one, f"{place}.{index}")
    if not isinstance(part, dict):
        return
    key = "checkpoint" if kind_of(part) == "Pretrained" else "pretrained"
    file = part.get(key)
    named = isinstance(file, str) and (key == "checkpoint" or file.endswith(_WEIGHTS))
    if named and "://" not in str(file) and not os.path.exists(str(file)):
        yield (
            f'{place}.{key} names the weights "{file}", which are not there; paths begin in '
            f"the project's folder. Put them there, or set {place}.{key} to where they are."
        )
    for name, one in part.items():
        yield from missing_weights(one, f"{place}.{name}")


def _build_hook(hook: Dict[str, Any]) -> Any:
    from mmengine.registry import HOOKS

    # `priority` is the Runner's own (mmengine 0.10.7, Runner.register_hook), not the hook's.
    own = {key: value for key, value in hook.items() if key != "priority"}
    return HOOKS.build(copy.deepcopy(own))


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
