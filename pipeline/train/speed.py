"""`job.speed` in a job: half precision on the CPU, layout in memory, flags; what a torch lacks.

What becomes part of the recipe is in the config already (`speed_config.py`).
"""

import contextlib
import os
import shutil
import warnings
from typing import Any, Dict, Iterator, List, Mapping, Optional

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from torch import nn

from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Cause
from pipeline.train.left_out import kind_of
from pipeline.train.outcome import JobFailure
from pipeline.train.speed_config import AMP, TF32, precision_of

#: The variable of a job's own config that `lay_out_weights` is asked for by.
CHANNELS_LAST = "channels_last"
#: Convolutions whose weights have a layout with the channels last.
_FORMATS = {
    nn.Conv2d: torch.channels_last,
    nn.ConvTranspose2d: torch.channels_last,
    nn.Conv3d: torch.channels_last_3d,
    nn.ConvTranspose3d: torch.channels_last_3d,
}


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """MMEngine's AmpOptimWrapper asks for a GPU; this is the same on the CPU, in bfloat16."""

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


def set_speed(config: Config, spec: TrialSpec) -> None:
    """Fit a job's config to its settings and its device, and set torch's flags.

    Raises:
        JobFailure: the CPU cannot compute in the config's precision.
    """
    speed = spec.speed or {}
    if speed.get("compile"):
        config["compile"] = config.get("compile") or True
    if speed.get("cudnn_benchmark"):
        config["env_cfg"] = {**(config.get("env_cfg") or {}), "cudnn_benchmark": True}
    if speed.get("channels_last"):
        config[CHANNELS_LAST] = True
    if config.get(TF32):
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    if spec.device == "cpu" and kind_of(config.optim_wrapper) == AMP:
        _use_cpu_wrapper(config)


def _use_cpu_wrapper(config: Config) -> None:
    if "fp16" in precision_of(config):
        raise JobFailure(
            Cause.BAD_CONFIG, "Half precision with float16 needs a GPU; the CPU has bfloat16."
        )
    wrapper = {k: v for k, v in config.optim_wrapper.items() if k not in _ONLY_ON_GPU}
    config.optim_wrapper = {**wrapper, "type": CpuAmpOptimWrapper.__name__}


_ONLY_ON_GPU = ("dtype", "loss_scale", "use_fsdp")


def lay_out_weights(model: nn.Module) -> None:
    """Put the channels of all convolution weights last in memory; values and shapes stay.

    Inputs need no layout of their own: a convolution takes over that of its weights.
    """
    for module in model.modules():
        layout = next((f for kind, f in _FORMATS.items() if isinstance(module, kind)), None)
        if layout is not None:
            weight = module.weight
            weight.data = weight.data.contiguous(memory_format=layout)


class SpeedRunner(Runner):
    """MMEngine's Runner; weights get their layout in memory before ranks share them."""

    def wrap_model(self, model_wrapper_cfg: Optional[Dict[str, Any]], model: Any) -> Any:
        if self.cfg.get(CHANNELS_LAST):
            lay_out_weights(model)
        return super().wrap_model(model_wrapper_cfg, model)


def lacking(speed: Mapping[str, Any]) -> List[str]:
    """Return a sentence for each setting that this interpreter's torch cannot do."""
    if not speed.get("compile"):
        return []
    why = _no_compile()
    return [f"job.speed.compile is true, but {why}. Leave it out."] if why else []


def _no_compile() -> str:
    if not hasattr(torch, "compile"):
        return f"torch {torch.__version__} has no torch.compile (it came with 2.0)"
    reason = _no_dynamo()
    if reason:
        return f"torch {torch.__version__} cannot compile here ({reason})"
    if not any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++"))):
        return "torch.compile needs a C++ compiler, and there is no g++ here"
    return ""


def _no_dynamo() -> str:
    """Return why torch's compiler does not run on this Python or platform, "" if it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from torch._dynamo.eval_frame import check_if_dynamo_supported

            check_if_dynamo_supported()
        except ImportError:  # an internal name: the job says it
            return ""
        except RuntimeError as error:
            return str(error).split("\n")[0]
    return ""
