"""`job.speed` in a config: what is written into it, and the precision that a config trains in.

Only what changes the arithmetic becomes part of the config, and so of the recipe: `amp` as
MMEngine's own wrapper, `tf32` as a variable that a job reads. The other settings change the order
of sums at most and come with a start (`speed.py`). Plain dicts: neither torch nor MMEngine is
imported.
"""

from typing import Any, Dict, Mapping, Optional

from pipeline.train.left_out import kind_of

#: torch's names of the types, by those of the sweep file.
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
#: The variable of a config that lets float32 products use tf32.
TF32 = "allow_tf32"
AMP = "AmpOptimWrapper"
#: Settings that a config may have by itself, and where.
_OWN = {"compile": ("compile",), "cudnn_benchmark": ("env_cfg", "cudnn_benchmark")}


def speed_problem(config: Mapping[str, Any], speed: Mapping[str, Any]) -> Optional[str]:
    """Return how `job.speed` contradicts a config, in a sentence; None if it does not.

    Args:
        speed: the settings that the sweep file names, also those that it sets to false.
    """
    for name, path in _OWN.items():
        own: Any = config
        for key in path:
            own = (own or {}).get(key)
        if speed.get(name) is False and own:
            return (
                f"job.speed.{name} is false, and the config has {'.'.join(path)} = {own!r}; "
                "remove one of them."
            )
    return _amp_problem(config.get("optim_wrapper"), speed.get("amp"))


def _amp_problem(wrapper: Any, amp: Optional[str]) -> Optional[str]:
    if amp is None or not isinstance(wrapper, dict):
        return None
    kind = kind_of(wrapper) or "OptimWrapper"
    if kind == AMP and _amp_of(wrapper) != amp:
        return (
            f"job.speed.amp is {amp}, and the config's own {AMP} computes in {_amp_of(wrapper)}; "
            "remove one of them."
        )
    if kind not in ("OptimWrapper", AMP):
        return (
            f"job.speed.amp is {amp}, but the config's optim_wrapper is a {kind}, which decides "
            "its precision itself; leave amp out."
        )
    if "optimizer" not in wrapper:
        return (
            f"job.speed.amp is {amp}, but the config has several optimizers, each with a wrapper "
            f"of its own; leave amp out, and write {AMP} for those that shall use it."
        )
    return None


def apply_speed(config: Dict[str, Any], speed: Mapping[str, Any]) -> None:
    """Write the settings that change the arithmetic into a config, in place."""
    amp, wrapper = speed.get("amp"), config.get("optim_wrapper")
    if amp is not None and isinstance(wrapper, dict) and kind_of(wrapper) != AMP:
        wrapper.update(type=AMP, dtype=DTYPES[amp])
        if amp == "bf16":  # it has the range of float32: no loss has to be scaled
            wrapper["loss_scale"] = {"enabled": False}
    if speed.get("tf32"):
        config[TF32] = True


def precision_of(config: Mapping[str, Any]) -> str:
    """Return what a config trains in: "fp32", "bf16", "fp16", "tf32" or two of them."""
    wrapper = config.get("optim_wrapper")
    amp = _amp_of(wrapper) if kind_of(wrapper) == AMP else "fp32"
    parts = [amp] if amp != "fp32" else []
    parts += ["tf32"] if config.get(TF32) else []
    return "+".join(parts) or "fp32"


def _amp_of(wrapper: Any) -> str:
    """Return the type of an AmpOptimWrapper; without a `dtype` torch takes float16."""
    dtype = str(wrapper.get("dtype") or "float16").rsplit(".", 1)[-1]
    return {long: short for short, long in DTYPES.items()}.get(dtype, dtype.replace("float", "fp"))
