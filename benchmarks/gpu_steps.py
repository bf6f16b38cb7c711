"""The sections of `benchmarks/gpu.py` about training steps: settings, and a group of one rank."""

import contextlib
import copy
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from gpu_rows import Section, carry_out

warnings.simplefilter("ignore")
logging.disable(logging.INFO)  # MMEngine would list every weight it initialises

ROOT = Path(__file__).resolve().parents[1]
#: The plan's batch; halved until a step of the largest model fits.
BATCH, SIZE = 20, 224
SMALL_BATCH, SMALL_SIZE = 2, 48
STEP_S, COMPILED_S = 30.0, 6.0
#: Several models are held at once beside the one that takes a step.
MOST_OF_MEMORY = 0.6
REFERENCE = "PCAN, fp32"
#: A CPU has neither fp16 nor tf32, and a compiler takes minutes on it.
ONLY_ON_GPU = {"fp16", "strict", "tf32", "cudnn_benchmark", "compile"}


def machine(section: Section) -> None:
    """Say what there is; end with a sentence where the GPU that was asked for is missing."""
    if section.device == "cuda":
        if not torch.cuda.is_available():
            build = torch.version.cuda or "no CUDA in this build"
            sys.exit(
                f"torch {torch.__version__} ({build}) sees no GPU. To see that all of this runs: "
                "python benchmarks/gpu.py --device cpu --small"
            )
        about = torch.cuda.get_device_properties(0)
        section.row("GPU", f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
        section.row("CUDA", torch.version.cuda)
    else:
        section.row("CPU", platform.machine())
    section.row("cores", len(os.sched_getaffinity(0)))
    section.row("torch", torch.__version__)


class Trainee:
    """A model in training under one set of speed settings.

    Args:
        kind: "stock", "head" (the stock backbone with PCAN's head) or "pcan".
        settings: of `ONLY_ON_GPU`, "bf16" and "channels_last".
    """

    def __init__(self, section: Section, kind: str, settings: Sequence[str]) -> None:
        self.settings, self.device = settings, section.device
        self.cuda = section.device == "cuda"
        before = torch.cuda.memory_allocated() if self.cuda else 0
        torch.manual_seed(0)
        self.model = build(kind, section.small).to(section.device).train()
        if "channels_last" in settings:
            from pipeline.train.speed import lay_out_weights

            lay_out_weights(self.model)
        if "compile" in settings:  # as MMEngine does for `compile = True`
            self.model.forward = torch.compile(self.model.forward)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.003, momentum=0.9)
        self._before, self._own = before, 0
        self.times: list[float] = []
        self.peak = 0

    def warm_up(self, batch: tuple[Any, Any]) -> float:
        """Take two steps; return the seconds of the first, in which a compiler works."""
        first = self.step(batch)
        self.step(batch)
        if self.cuda:
            self._own = torch.cuda.memory_allocated() - self._before
        return first

    def step(self, batch: tuple[Any, Any]) -> float:
        """Take one training step; return its seconds."""
        inputs, samples = batch
        torch.backends.cuda.matmul.allow_tf32 = "tf32" in self.settings
        torch.backends.cudnn.allow_tf32 = "strict" not in self.settings  # on is torch's default
        torch.backends.cudnn.benchmark = "cudnn_benchmark" in self.settings
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}
        amp = next((half[name] for name in self.settings if name in half), None)
        others = self._start_peak()
        begun = time.perf_counter()
        with torch.autocast(self.device, amp or torch.bfloat16, enabled=amp is not None):
            losses = self.model(dict(inputs), samples, mode="loss")
            loss, _ = self.model.parse_losses(losses)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.cuda:
            torch.cuda.synchronize()
            self.peak = torch.cuda.max_memory_allocated() - others
        return time.perf_counter() - begun

    def _start_peak(self) -> int:
        """Return the bytes that other models hold on the GPU."""
        if not self.cuda:
            return 0
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() - self._own


def build(kind: str, small: bool) -> torch.nn.Module:
    """Build the plan's model (the demo's where small), or as much of it as is stock."""
    from mmaction.registry import MODELS

    config = copy.deepcopy(config_of(small).model.to_dict())
    backbone, head = config["backbone"], config["cls_head"]
    if kind != "pcan":
        backbone["type"] = "RGBPoseConv3D"
        for key in [k for k in backbone if k.startswith("cross_") or k.endswith("_frames")]:
            del backbone[key]
    if kind == "stock":
        config["cls_head"] = {
            "type": "RGBPoseHead",
            "num_classes": head["num_classes"],
            "in_channels": head["in_channels"],
            "loss_weights": [1.0, 2.0],
            "dropout": head["dropout"],
        }
    made = MODELS.build(config)
    made.init_weights()
    return made


def config_of(small: bool) -> Any:
    from mmengine.config import Config

    return Config.fromfile(ROOT / "configs" / ("pcan_demo.py" if small else "pcan_ntu60.py"))


def batch_of(section: Section, count: int) -> tuple[Any, Any]:
    """Return random pictures, maps and labels on the device."""
    from mmaction.structures import ActionDataSample

    size = SMALL_SIZE if section.small else SIZE
    inputs = {
        "imgs": torch.randn(count, 1, 3, 8, size, size),
        "heatmap_imgs": torch.rand(count, 1, 17, 32, size // 4, size // 4),
    }
    samples = [ActionDataSample().set_gt_label(i % 8) for i in range(count)]
    on_device = {name: tensor.to(section.device) for name, tensor in inputs.items()}
    return on_device, [sample.to(section.device) for sample in samples]


def step(section: Section) -> None:
    """Compare training steps with those of PCAN in float32.

    What a compiler makes of it comes last: it may take longer than the section has.
    """
    prepare()
    batch = largest_batch(section)
    section.row("batch", len(batch[1]), "samples")
    wanted = modes(section)
    plain = {name: mode for name, mode in wanted.items() if "compile" not in mode[1]}
    trainees = dict(ready(section, batch, plain))
    take_turns(section, batch, trainees, 1.0 if section.small else STEP_S)
    compiled = {name: mode for name, mode in wanted.items() if name not in plain}
    trainees = {REFERENCE: trainees[REFERENCE]}
    trainees.update(ready(section, batch, compiled))
    if len(trainees) > 1:
        take_turns(section, batch, trainees, COMPILED_S, known=(REFERENCE,))


def take_turns(
    section: Section,
    batch: tuple[Any, Any],
    trainees: dict[str, Trainee],
    seconds: float,
    known: Sequence[str] = (),
) -> None:
    """Let models take steps in turn, so that what else happens slows all alike; write rows.

    Args:
        known: names whose figures are written already.
    """
    for one in trainees.values():
        one.times.clear()
    until, first = time.perf_counter() + seconds, trainees[REFERENCE]
    while time.perf_counter() < until or len(first.times) < 3:
        for one in trainees.values():
            one.times.append(one.step(batch))
    for name, one in trainees.items():
        if name in known:
            continue
        median = statistics.median(one.times)
        ratio = statistics.median(a / b for a, b in zip(one.times, first.times, strict=True))
        section.row(name, 1e3 * median, "ms", ratio, REFERENCE)
        section.row(f"{name}: samples", len(batch[1]) / median, "/s")
        if one.cuda:
            memory = one.peak / first.peak
            section.row(f"{name}: peak memory", one.peak / 2**30, "GiB", memory, REFERENCE)


def modes(section: Section) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return what is compared: kind of model and settings by name."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {
        "stock config, fp32": ("stock", ()),
        "stock backbone with PCAN's head, fp32": ("head", ()),
        "stock config, fp16": ("stock", ("fp16",)),  # its head cannot take bf16
        REFERENCE: ("pcan", ()),
        "PCAN, fp32, no tf32 in convolutions": ("pcan", ("strict",)),
        "PCAN, tf32": ("pcan", ("tf32",)),
        "PCAN, fp32, cudnn_benchmark": ("pcan", ("cudnn_benchmark",)),
        "PCAN, bf16": ("pcan", ("bf16",)),
        "PCAN, bf16, channels last": ("pcan", ("bf16", "channels_last")),
        "PCAN, bf16, channels last, compiled": ("pcan", ("bf16", "channels_last", "compile")),
    }
    if section.device == "cpu":
        found = {n: mode for n, mode in found.items() if not set(mode[1]) & ONLY_ON_GPU}
    return found


def ready(
    section: Section, batch: tuple[Any, Any], wanted: dict[str, tuple[str, tuple[str, ...]]]
) -> Iterator[tuple[str, Trainee]]:
    """Yield each model after its first steps; one that cannot take them becomes a row."""
    for name, (kind, settings) in wanted.items():
        try:
            one = Trainee(section, kind, settings)
            first = one.warm_up(batch)
        except Exception as error:  # a compiler may raise anything; the others still count
            section.row(name, f"fails: {type(error).__name__}: {first_line(error)}")
            continue
        if "compile" in settings:
            section.row(f"{name}: first step", first, "s")
        yield name, one


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def largest_batch(section: Section) -> tuple[Any, Any]:
    """Return the plan's batch, or half of it as often as memory demands."""
    count = SMALL_BATCH if section.small else BATCH
    while True:
        batch = batch_of(section, count)
        try:
            one = Trainee(section, "pcan", ())
            one.warm_up(batch)
            one.step(batch)
            if one.peak <= MOST_OF_MEMORY * memory_of(section) or count < 2:
                return batch
        except torch.OutOfMemoryError:
            if count < 2:
                raise
        finally:
            one = batch = None  # type: ignore[assignment]
            if section.device == "cuda":
                torch.cuda.empty_cache()
        count //= 2


def memory_of(section: Section) -> int:
    """Return the bytes of the GPU."""
    if section.device == "cpu":
        return 1
    return torch.cuda.get_device_properties(0).total_memory


def nccl(section: Section) -> None:
    """Compare steps alone with those of a group of one rank, joined as a job joins it."""
    prepare()
    from mmengine.model import MMDistributedDataParallel

    from pipeline.shared.rundir import MEETING
    from pipeline.train import distributed

    os.environ.update(WORLD_SIZE="1", RANK="0", LOCAL_RANK="0")
    os.environ[MEETING] = str(section.folder / "meeting")
    begun = time.perf_counter()
    distributed.join(section.device, timeout_s=60)
    section.row("joining a group of one", time.perf_counter() - begun, "s")
    section.row("backend", torch.distributed.get_backend())
    batch = batch_of(section, SMALL_BATCH)
    alone, ranked = (Trainee(section, "pcan", ()) for _ in range(2))
    ids = [0] if section.device == "cuda" else None
    plain = ranked.model
    ranked.model = MMDistributedDataParallel(plain, device_ids=ids, find_unused_parameters=True)
    ranked.model.parse_losses = plain.parse_losses
    pairs = []
    for number in range(8):
        torch.manual_seed(number)  # the same units drop out
        first = alone.step(batch)
        torch.manual_seed(number)
        pairs.append((first, ranked.step(batch)))
    ratio = statistics.median(b / a for a, b in pairs[2:])
    section.row(
        "a step of one rank",
        1e3 * statistics.median(b for _, b in pairs[2:]),
        "ms",
        ratio,
        "alone",
    )
    apart = max(
        float((a - b).abs().max())
        for a, b in zip(alone.model.parameters(), plain.parameters(), strict=True)
    )
    section.row("largest difference of a weight after 8 steps", apart)
    gathered = distributed.gather({"rank": distributed.rank()})
    section.row("gathered from all ranks", len(gathered), "answer")
    distributed.leave()


def prepare() -> None:
    """Register what the configs name, and let each process use one core."""
    from pipeline.train.compat import prepare_mmaction

    prepare_mmaction()
    from mmaction.utils import register_all_modules

    register_all_modules()
    import pipeline.train.model  # noqa: F401

    with contextlib.suppress(RuntimeError):
        torch.set_num_threads(1)


if __name__ == "__main__":
    carry_out(
        {
            "machine": machine,
            "step": step,
            "nccl": nccl,
        }
    )
