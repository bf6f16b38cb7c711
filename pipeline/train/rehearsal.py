"""What a training of a config would meet in its first and last step, found before it is started.

Each part is built as the Runner builds it, one sample of each loader goes through its chain, and
one of them through model and evaluator, which shows the names of the metrics. Only errors that
every start would meet are problems: what a machine or a moment may cause is left to the job.
"""

import copy
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from pipeline.train.left_out import REPLACED, kind_of, split_hooks

#: Errors by which a part refuses what it is given.
REFUSALS = (TypeError, KeyError, ValueError, IndexError, AttributeError, AssertionError)
_SHAPES = re.compile(r"size|shape|channel|dimension|expected .* input", re.I)
_DELETE = "To replace a part of a base config as a whole, write _delete_=True in it"


def part_problems(cfg: Any, model: Any) -> List[str]:
    """Return a sentence for each part of a config that cannot be built; no data are read."""
    found = list(_loop(cfg))
    for place, build in _builders(cfg, model):
        try:
            build()
        except REFUSALS as error:
            text = _text(error)
            hint = f" {_DELETE}." if "unexpected keyword" in text else ""
            found.append(f"{place} cannot be built: {text}.{hint}")
        except Exception:  # it may need what only a job has: a process group, a device
            continue
    return found


def _loop(cfg: Any) -> Iterator[str]:
    loop = cfg.get("train_cfg") or {}
    if "type" in loop and "by_epoch" in loop:
        yield (
            f'train_cfg has type "{kind_of(loop)}" and by_epoch={loop["by_epoch"]}, one of them '
            "from a base config; MMEngine takes only one. Leave `type` out, or replace the whole: "
            "train_cfg=dict(_delete_=True, type=..., max_epochs=...)."
        )


def _builders(cfg: Any, model: Any) -> Iterator[Tuple[str, Callable[[], Any]]]:
    from mmengine.evaluator import Evaluator
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import HOOKS

    yield "optim_wrapper", lambda: build_optim_wrapper(model, _plain_wrapper(cfg.optim_wrapper))
    yield "val_evaluator", lambda: Evaluator(copy.deepcopy(cfg.val_evaluator))
    default, custom, _ = split_hooks(cfg)
    named = [(f"default_hooks.{name}", hook) for name, hook in default.items()]
    named += [(f"custom_hooks.{i}", hook) for i, hook in enumerate(custom)]
    for place, hook in named:
        if isinstance(hook, dict):
            yield place, lambda one=hook: HOOKS.build(copy.deepcopy(one))


def _plain_wrapper(wrapper: Any) -> Any:
    """Return the optimizer's wrapper without mixed precision, which needs the job's device."""
    plain = copy.deepcopy(wrapper)
    if kind_of(plain) == "AmpOptimWrapper":
        plain["type"] = "OptimWrapper"
        for name in ("loss_scale", "dtype", "use_fsdp"):
            plain.pop(name, None)
    return plain


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


class Rehearsal:
    """Rehearses configs one after the other; samples of equal data sets are drawn once."""

    def __init__(self) -> None:
        self._samples: Dict[str, Any] = {}

    def run(self, cfg: Any, model: Any) -> Tuple[List[str], Optional[List[str]]]:
        """Return what is wrong with samples and model, and the names of the metrics.

        The names are None where they cannot be known without a job.
        """
        problems: List[str] = []
        drawn = None
        for loader in ("train_dataloader", "val_dataloader"):
            try:
                drawn = self._draw(cfg[loader])
            except Refused as refused:
                problems.append(f"{loader}: {refused}")
            except Exception:  # data that are away, a server: the job says it in its own words
                drawn = None
        if problems or drawn is None:
            return problems, None
        try:
            return [], metric_names(cfg, model, *drawn)
        except RuntimeError as error:
            text = _text(error)
            problem = f"the first validated sample does not fit the model: {text}."
            return [problem] if _SHAPES.search(text) else [], None
        except Exception:
            return [], None

    def _draw(self, loader: Any) -> Tuple[Any, Any]:
        """Return a loader's data set and its first sample."""
        from mmengine.registry import DATASETS

        key = repr(loader["dataset"])
        if key not in self._samples:
            dataset = DATASETS.build(copy.deepcopy(loader["dataset"]))
            if len(dataset) == 0:
                raise Refused("its data set is empty; check ann_file and split.")
            self._samples[key] = dataset, first_sample(dataset)
        return self._samples[key]


class Refused(Exception):
    """A sample that the chain cannot take; the text names the clip."""


def first_sample(dataset: Any) -> Any:
    """Return the first sample as the chain makes it."""
    try:
        return dataset[0]
    except REFUSALS as error:
        raise Refused(
            f"the first clip{_clip(dataset)} does not pass the chain: {_text(error)}."
        ) from error


def _clip(dataset: Any) -> str:
    """Return the name of the first clip and the form of its joints."""
    try:
        about = dataset.get_data_info(0)
    except Exception:
        return ""
    name = about.get("frame_dir") or about.get("filename") or about.get("img_path")
    joints = about.get("keypoint")
    if joints is None:
        return f" ({name})"
    shape = getattr(joints, "shape", None)
    form = f"an array of {tuple(shape)}" if shape is not None else f"a {type(joints).__name__}"
    return f" ({name}; its joints are {form}, an array of (people, frames, joints, 2) is usual)"


def metric_names(cfg: Any, model: Any, dataset: Any, sample: Any) -> List[str]:
    """Return the names of what a validation gives, from one sample through model and evaluator."""
    import torch
    from mmengine.evaluator import Evaluator
    from mmengine.registry import FUNCTIONS

    wanted = dict(cfg.val_dataloader.get("collate_fn") or {"type": "pseudo_collate"})
    collate = FUNCTIONS.get(wanted.pop("type"))
    batch = collate([sample], **wanted)
    evaluator = Evaluator(copy.deepcopy(cfg.val_evaluator))
    evaluator.dataset_meta = getattr(dataset, "metainfo", None)
    model.eval()
    with torch.no_grad():
        outputs = model.val_step(batch)
    evaluator.process(data_samples=outputs, data_batch=batch)
    return sorted(str(name) for name in evaluator.evaluate(1))


def _text(error: BaseException) -> str:
    """Return an error in one line, its own cause in place of what wraps it."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": .")
