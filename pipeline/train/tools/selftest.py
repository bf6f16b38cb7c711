"""Checks whether this environment can train: `python -m pipeline.train.tools.selftest`.

Answers `{"versions": {...}, "problems": {package: sentence}, "cuda": number of GPUs}`. Beside
importing what a job imports, a checkpoint with everything in it is saved and loaded again.
"""

import importlib
import os
import sys
import tempfile
from typing import Any, Dict

from pipeline.train.tools.tool import serve

_PACKAGES = ("numpy", "torch", "mmengine", "mmcv", "mmaction", "cv2", "decord")
#: Only some configs need it.
_OPTIONAL = ("decord",)


def answer(_question: Dict[str, Any]) -> Dict[str, Any]:
    """Import, save, load; every failure becomes a sentence."""
    versions: Dict[str, str] = {}
    problems: Dict[str, str] = {}
    for name in _PACKAGES:
        try:
            _prepare(name)
            versions[name] = str(getattr(importlib.import_module(name), "__version__", "?"))
        except Exception as error:  # a broken build raises nearly anything
            if name not in _OPTIONAL:
                text = str(error).splitlines()[:1] or [type(error).__name__]
                problems[name] = f"cannot be imported: {text[0]}. Reinstall it."
    if "torch" in versions and "mmengine" in versions:
        trouble = round_trip()
        if trouble is not None:
            problems["checkpoint"] = trouble
    return {"versions": versions, "problems": problems, "cuda": _gpus()}


def _prepare(name: str) -> None:
    if name == "mmaction":
        from pipeline.train.compat import prepare_mmaction

        prepare_mmaction()


def _gpus() -> int:
    try:
        import torch

        return int(torch.cuda.device_count())
    except Exception:
        return 0


def round_trip() -> Any:
    """Save and load a checkpoint as a job does; return what is wrong, None if nothing is."""
    import torch

    from pipeline.train.checkpoints import KEYS, SCHEMA, plain, read, write

    with tempfile.TemporaryDirectory() as folder:
        from pathlib import Path

        path = Path(folder) / "epoch_1.pth"
        content: Dict[str, Any] = {**dict.fromkeys(KEYS), "schema": SCHEMA}
        content["state_dict"] = {"weight": torch.arange(4.0)}
        try:
            write(path, plain(content))
            back = read(path)["state_dict"]["weight"]
        except Exception as error:
            return f"this torch cannot load what it saved: {error}"
    if os.path.exists(folder) or not torch.equal(back, torch.arange(4.0)):
        return "a checkpoint came back with other numbers than were saved"
    return None


if __name__ == "__main__":
    sys.exit(serve(answer))
