"""What a training takes of a device's memory, measured at growing batches in the rehearsal.

Two small batches tell what is fixed and what a sample adds. The largest batch is run where they
say that it fits; on a GPU also where they say that it nearly does: an error there harms nothing.
Each size makes two training steps: the first makes the optimizer's state.
"""

import copy
import gc
from typing import Any, Callable, Dict, List, Optional, Tuple

from pipeline.shared.spec import TrialSpec
from pipeline.train.first_step import within
from pipeline.train.outcome import JobFailure

#: Nothing is measured on the CPU where this many times the batches' inputs are in any case free:
#: activations of the models here take 20 to 100 times their inputs.
SMALL = 200
#: Bytes of a process that has imported torch and MMAction2, at least.
BASE = 400 << 20
#: Seconds for one config, by device; one that takes longer is left to the job, and all after it.
LIMITS_S = {"cuda": 60.0, "cpu": 20.0}
#: A GPU is given a batch that is predicted to take up to this many times what is free.
_TRIED = 1.3
Points = List[Tuple[int, int]]


class MemoryProbe:
    """Measures configs one after the other; those of one model and batch share the answer.

    Args:
        request: "device" ("cuda", "cpu"), "free" bytes for one rank, "always" (else small batches
            are left out on the CPU), "ranks" that train together.
        speed: what `job.speed` has on.
    """

    def __init__(self, request: Dict[str, Any], speed: Dict[str, Any]) -> None:
        self._device = str(request["device"])
        self._free, self._always = int(request["free"]), bool(request["always"])
        self._ranks, self._speed = int(request["ranks"]), speed
        self._known: Dict[str, Dict[str, Any]] = {}
        self._given_up = False
        self._meter = _GpuMeter() if self._device == "cuda" else _CpuMeter()

    def answer(self, cfg: Any, model: Any, loaders: Dict[str, Any]) -> Dict[str, Any]:
        """Return what a config takes.

        Args:
            loaders: `RehearsedLoader` by name; empty where the rehearsal did not get that far.

        Returns:
            "memory": "device", "batch", "peak", "fixed", "per_sample", "sizes" that were run,
            "val_batch" and "val_peak", in bytes for one rank; None where nothing was measured.
            "settled", False where time ran out.
        """
        nothing = {"problems": [], "notes": [], "settled": True, "memory": None}
        if len(loaders) < 2 or self._is_small(loaders) or not self._is_there():
            return nothing
        if self._given_up:  # its thread still computes
            return {**nothing, "settled": self._device == "cpu"}
        parts = ("model", "train_dataloader", "val_dataloader", "optim_wrapper")
        key = repr([cfg.get(part) for part in parts])
        if key not in self._known:
            self._known[key] = {**nothing, **self._within(cfg, model, loaders)}
        return self._known[key]

    def _is_there(self) -> bool:
        """Whether this torch can use the device at all; else the job says it."""
        import torch

        return self._device == "cpu" or torch.version.cuda is not None

    def _is_small(self, loaders: Dict[str, Any]) -> bool:
        if self._always or self._device == "cuda":
            return False
        return max(one.load()["batch_bytes"] for one in loaders.values()) * SMALL < self._free

    def _within(self, cfg: Any, model: Any, loaders: Dict[str, Any]) -> Dict[str, Any]:
        found: Dict[str, Any] = {"settled": False, "memory": None}

        def measure() -> None:
            try:
                found["memory"] = self._measure(cfg, model, loaders)
            finally:
                _clean(model)
            found["settled"] = True

        error = within(LIMITS_S[self._device], measure)
        self._given_up = error is None and not found["settled"]
        # What a step ends with is the rehearsal's own matter; a user's part may need a job.
        # A slow CPU is slow the next time too; a GPU may have been busy.
        return {**found, "settled": found["settled"] or self._device == "cpu"}

    def _measure(self, cfg: Any, model: Any, loaders: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        train, val = loaders["train_dataloader"], loaders["val_dataloader"]
        batch = train.shape.batch_size
        steps = self._training(cfg, model, train) if batch else None
        if steps is None:
            return None
        points = self._grow(batch, steps)
        beside, (fixed, per_sample) = self._beside(model), line(points)
        model.eval()
        val_batch = val.shape.batch_size or 1
        seen = self._grow(val_batch, lambda size: _validate(model, val, size))
        return {
            "device": self._device,
            "batch": batch,
            "peak": peak_at(points, batch) + beside,
            "fixed": fixed + beside,
            "per_sample": per_sample,
            "sizes": [size for size, _ in points],
            "val_batch": val_batch,
            "val_peak": peak_at(seen, val_batch) if seen else None,
        }

    def _training(self, cfg: Any, model: Any, train: Any) -> Optional[Callable[[int], None]]:
        """Return what makes two training steps with a batch of the size it is given."""
        from mmengine.optim import build_optim_wrapper

        from pipeline.train.speed import lay_out_weights, set_speed

        own = copy.deepcopy(cfg)
        try:
            set_speed(own, TrialSpec(device=self._device, speed=self._speed))
        except JobFailure:
            return None
        if self._speed.get("channels_last"):
            lay_out_weights(model)
        model.to(self._device)
        wrapper = build_optim_wrapper(model, own.optim_wrapper)

        def steps(size: int) -> None:
            model.train()
            for _ in range(2):
                batch = train.loader.collate_fn([copy.deepcopy(train.sample) for _ in range(size)])
                model.train_step(batch, wrapper)

        return steps

    def _grow(self, batch: int, run: Callable[[int], None]) -> Points:
        """Return sizes and the peaks that they reached, up to the batch or to what fits."""
        points: Points = []
        sizes = sizes_up_to(batch)
        if self._device == "cpu":  # seconds a sample: the two smaller ones tell the third
            sizes = sizes[:2]
        for size in sizes:
            if len(points) > 1 and self._is_too_much(points, size):
                break
            self._meter.reset()
            try:
                run(size)
            except RuntimeError as error:
                if "out of memory" not in str(error):
                    raise
                break
            points.append((size, self._meter.peak()))
        return points

    def _is_too_much(self, points: Points, size: int) -> bool:
        fixed, per_sample = line(points)
        return fixed + size * per_sample > self._free * (_TRIED if self._device == "cuda" else 1)

    def _beside(self, model: Any) -> int:
        """Return what a job is certain to have beside a step: buckets of its ranks' gradients.

        On the CPU the model itself was there before the step. A search's trials also have up to
        two sums of the weights.
        """
        counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
        buckets = sum(n for n, learned in counts if learned) if self._ranks > 1 else 0
        own = sum(n for n, _ in counts) if self._device == "cpu" else 0
        return 4 * (buckets + own)


def sizes_up_to(batch: int) -> List[int]:
    """Return the batch sizes that are run; a batch normalisation may need two samples."""
    return sorted({min(batch, max(2, batch // 4)), min(batch, max(2, batch // 2)), batch})


def line(points: Points) -> Tuple[int, int]:
    """Return the fixed bytes and those of a sample, from the smallest and the largest size."""
    if not points:
        return 0, 0
    (small, low), (large, high) = points[0], points[-1]
    per_sample = max(0, high - low) // (large - small) if large > small else 0
    return high - large * per_sample, per_sample


def peak_at(points: Points, batch: int) -> int:
    """Return what a batch takes: as measured, else by the line through the smaller ones."""
    fixed, per_sample = line(points)
    return dict(points).get(batch, fixed + batch * per_sample)


def _validate(model: Any, val: Any, size: int) -> None:
    import torch

    with torch.no_grad():
        model.val_step(val.loader.collate_fn([copy.deepcopy(val.sample) for _ in range(size)]))


def _clean(model: Any) -> None:
    """Leave the device as it was."""
    import torch

    for parameter in model.parameters():
        parameter.grad = None
    model.to("cpu")
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class _CpuMeter:
    """The resident memory of this process: what one rank of these would have.

    What the process holds beside the model (other configs, samples) is taken off.
    """

    def __init__(self) -> None:
        self._base = max(BASE, _status("VmRSS") or 0)
        self._before: Optional[int] = None

    def reset(self) -> None:
        if self._before is None:
            self._before = _status("VmRSS") or BASE
        # 5 makes the highest value so far the present one; where that is not allowed it stays.
        try:
            with open("/proc/self/clear_refs", "w") as stream:
                stream.write("5")
        except OSError:
            pass

    def peak(self) -> int:
        return self._base + max(0, (_status("VmHWM") or 0) - (self._before or 0))


def _status(key: str) -> Optional[int]:
    """Return a line of `/proc/self/status` in bytes."""
    try:
        with open("/proc/self/status") as stream:
            lines = [text for text in stream if text.startswith(key + ":")]
    except OSError:
        return None
    return int(lines[0].split()[1]) * 1024 if lines else None


class _GpuMeter:
    """What this process has reserved on its GPU, the driver's context included."""

    def reset(self) -> None:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        import torch

        free, total = torch.cuda.mem_get_info()
        context = max(0, total - free - torch.cuda.memory_reserved())
        return int(torch.cuda.max_memory_reserved()) + context
