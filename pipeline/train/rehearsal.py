"""What a training of a config would meet in its first and last step, found before it is started.

Each loader is built as the Runner builds it, one sample of each goes through its chain, one of
them through model and evaluator, which shows the names of the metrics, and one through a training
step.
Only errors that every start would meet are problems: what a machine or a moment may cause is left
to the job.
"""

import copy
import os
import re
import time
from typing import Any, Dict, List, Optional, Tuple

from pipeline.train.config_parts import REFUSALS, one_line, refusal
from pipeline.train.epoch_shape import EpochShape, shape_problems
from pipeline.train.first_step import step_problems
from pipeline.train.label_probe import LabelProbe
from pipeline.train.outcome import asks_for_gpu
from pipeline.train.speed_config import precision_of

_SHAPES = re.compile(r"size|shape|running_mean|channel|dimension|expected .* input", re.I)
#: No further training step is made after this time for all configs together.
_STEPS_S = 60.0
_LOADERS = ("train_dataloader", "val_dataloader")


class Refused(Exception):
    """A sample that the chain cannot take; the text names the clip."""


class RehearsedLoader:
    """A loader of a config, built for one process, with its first sample and the epoch's shape."""

    def __init__(self, name: str, loader: Any, sample: Any, ranks: int) -> None:
        self.loader, self.sample = loader, sample
        self.shape = EpochShape(name, loader, ranks)

    def one(self) -> Any:
        """Return the first sample as a batch."""
        return self.loader.collate_fn([copy.deepcopy(self.sample)])

    def load(self) -> Dict[str, int]:
        """Return what the loader's batches take of the machine (`machine_limits.BatchLoad`)."""
        one, two = (self._tensors(samples) for samples in (1, 2))
        more = max(0, (self.shape.batch_size or 1) - 1)
        added = [b - a for a, b in zip(one, two)]
        return {
            "batch_tensors": one[0] + more * added[0],
            "batch_bytes": one[1] + more * added[1],
            "workers": int(self.loader.num_workers),
            "prefetch": int(self.loader.prefetch_factor or 2),
        }

    def _tensors(self, samples: int) -> Tuple[int, int]:
        """Return number and bytes of the tensors in a batch."""
        batch = self.loader.collate_fn([copy.deepcopy(self.sample) for _ in range(samples)])
        tensors = list(_tensors_in(batch))
        return len(tensors), sum(t.numel() * t.element_size() for t in tensors)


def _tensors_in(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors_in(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors_in(one)
    elif hasattr(value, "all_values"):  # MMEngine's data elements
        for one in value.all_values():
            yield from _tensors_in(one)


class Rehearsal:
    """Rehearses configs one after the other; samples of equal data sets are drawn once.

    `read` lists the files of clips that were drawn: their decoder opens them unseen.

    Args:
        ranks: processes that train a config together.
    """

    def __init__(self, ranks: int = 1) -> None:
        self.read: List[str] = []
        self._ranks = ranks
        self._samples: Dict[str, Any] = {}
        self._steps: Dict[str, List[str]] = {}
        self._spent = 0.0
        self._labels = LabelProbe()
        #: Of the config that was rehearsed last; empty where it has a problem.
        self.loaders: Dict[str, RehearsedLoader] = {}

    def run(self, cfg: Any, model: Any) -> Dict[str, Any]:
        """Return what is wrong with loaders, samples and model, and what the loaders take.

        Returns:
            "problems", sentences; "metrics", the names that a validation gives, None where they
            cannot be known without a job; "loads" by loader; "labels", how the loss changes them;
            "notes", what was not rehearsed;
            "settled", False where another attempt may find more: something could not be reached,
            or there was no time for a training step.
        """
        answer: Dict[str, Any] = {"problems": [], "metrics": None, "loads": {}, "notes": []}
        answer.update(labels=[], settled=True)
        self.loaders = {}
        loaders = self._build_loaders(cfg, answer)
        if len(loaders) == len(_LOADERS) and not answer["problems"]:
            self._use(cfg, model, loaders, answer)
        return answer

    def _build_loaders(self, cfg: Any, answer: Dict[str, Any]) -> Dict[str, RehearsedLoader]:
        """Return the loaders that give samples, up to the first that does not."""
        loaders: Dict[str, RehearsedLoader] = {}
        try:
            for name in _LOADERS:
                loaders[name] = self._loader(name, cfg[name], answer["problems"])
                answer["loads"][name] = loaders[name].load()
        except Refused as refused:
            answer["problems"].append(str(refused))
        except Exception as error:  # data that are away: the job says it in its own words
            answer["notes"] += _gpu_note(error)
            answer["settled"] = not isinstance(error, OSError)
        return loaders

    def _use(
        self, cfg: Any, model: Any, loaders: Dict[str, RehearsedLoader], answer: Dict[str, Any]
    ) -> None:
        """Validate a sample and make a training step with the loaders' first samples."""
        try:
            answer["metrics"] = metric_names(cfg, model, loaders["val_dataloader"])
            batch = loaders["train_dataloader"].one()
            answer["labels"] = self._labels.remarks(cfg, model, batch)
            found = self._step(cfg, model, loaders["train_dataloader"])
            answer["problems"] += found or []
            answer["settled"] = found is not None
            self.loaders = loaders if not found else {}
        except RuntimeError as error:
            text = one_line(error)
            sentence = f"the first validated sample does not fit the model: {text}."
            answer["problems"] += [sentence] if _SHAPES.search(text) else []
            answer["notes"] += _gpu_note(error)
        except Exception as error:
            answer["notes"] += _gpu_note(error)
            answer["settled"] = not isinstance(error, OSError)

    def _loader(self, name: str, cfg: Any, problems: List[str]) -> RehearsedLoader:
        """Return a loader and its first sample; what is wrong with it goes to `problems`."""
        from mmengine.runner import Runner

        try:
            dataset, sample = self._draw(cfg)
        except Refused as refused:
            raise Refused(f"{name}: {refused}") from refused
        made: List[Any] = []
        drawn = _Kept({**cfg, "dataset": dataset})
        wrong = refusal(name, lambda: made.append(Runner.build_dataloader(drawn, seed=0)))
        if wrong is not None:
            raise Refused(wrong)
        rehearsed = RehearsedLoader(name, made[0], sample, self._ranks)
        problems += shape_problems(rehearsed.shape, trained=name == "train_dataloader")
        return rehearsed

    def _draw(self, loader: Any) -> Tuple[Any, Any]:
        """Return a loader's data set and its first sample."""
        from mmengine.registry import DATASETS

        key = repr(loader["dataset"])
        if key not in self._samples:
            dataset = DATASETS.build(copy.deepcopy(loader["dataset"]))
            if hasattr(dataset, "full_init"):
                dataset.full_init()
            if len(dataset) == 0:
                raise Refused("its data set is empty; check ann_file and split.")
            self.read += _files_of(dataset)
            self._samples[key] = dataset, first_sample(dataset)
        return self._samples[key]

    def _step(self, cfg: Any, model: Any, train: RehearsedLoader) -> Optional[List[str]]:
        """Return what a training step would end with, None if there was no time for it.

        Variants of one model and one precision share the answer.
        """
        wrapping = (cfg.get("find_unused_parameters"), cfg.get("model_wrapper_cfg"))
        key = repr([cfg["model"], cfg["train_dataloader"], precision_of(cfg), *wrapping])
        if key not in self._steps and self._spent < _STEPS_S:
            began = time.monotonic()
            self._steps[key] = step_problems(
                cfg, model, train.loader.collate_fn, train.sample, train.shape
            )
            self._spent += time.monotonic() - began
        return self._steps.get(key)


class _Kept(dict):
    """A loader's config whose data set is not copied with it."""

    def __deepcopy__(self, memo: Any) -> "_Kept":
        return _Kept({k: v if k == "dataset" else copy.deepcopy(v, memo) for k, v in self.items()})


def _gpu_note(error: BaseException) -> List[str]:
    if not asks_for_gpu(str(error)):
        return []
    return [gpu_note("its loaders or its model ask", error)]


def gpu_note(who: str, error: BaseException) -> str:
    """Return the sentence for a config that asks for a GPU, which a rehearsal does not use."""
    return (
        f"{who} for a GPU before the training ({one_line(error)}), and no GPU is used before a "
        "job; it is not rehearsed. Build it on the CPU: the job moves it to its GPU."
    )


def first_sample(dataset: Any) -> Any:
    """Return the first sample as the chain makes it."""
    try:
        return dataset[0]
    except REFUSALS as error:
        if asks_for_gpu(str(error)):
            raise
        raise Refused(
            f"the first clip{_clip(dataset)} does not pass the chain: {one_line(error)}."
        ) from error


def _files_of(dataset: Any) -> List[str]:
    """Return the files that the first clip names."""
    try:
        named = dataset.get_data_info(0).values()
    except Exception:
        return []
    return [value for value in named if isinstance(value, str) and os.path.isfile(value)]


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


def metric_names(cfg: Any, model: Any, val: RehearsedLoader) -> List[str]:
    """Return the names of what a validation gives, from one sample through model and evaluator."""
    import torch
    from mmengine.evaluator import Evaluator

    batch = val.loader.collate_fn([copy.deepcopy(val.sample)])
    evaluator = Evaluator(copy.deepcopy(cfg.val_evaluator))
    evaluator.dataset_meta = getattr(val.loader.dataset, "metainfo", None)
    model.eval()
    with torch.no_grad():
        outputs = model.val_step(batch)
    evaluator.process(data_samples=outputs, data_batch=batch)
    return sorted(str(name) for name in evaluator.evaluate(1))
