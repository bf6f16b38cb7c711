"""`python -m pipeline.train.tools.export_weights`: the weights of a checkpoint, and nothing else.

stdin: `{"checkpoint": path, "out": path, "start": path or null, "start_out": path}`. stdout:
`{"sha256", "not_in_safetensors", "keys", "bytes", "epoch", "start": whether start_out was
written}`. The file is `{"state_dict": {name: tensor}}`: it loads with `weights_only=True` and by
MMEngine's `load_checkpoint`. Prototypes are buffers of the model and so part of it. A file in the
safetensors form stands beside it, and the starting weights where MMEngine could not load their own
file with this torch.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from pipeline.train.outcome import JobFailure
from pipeline.train.tools.tool import ToolError, serve


def export(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    for name in ("checkpoint", "out"):
        if not isinstance(question.get(name), str):
            raise ToolError(f'The question has no "{name}".')
    from pipeline.train import checkpoints
    from pipeline.train.tools.safetensors_file import write_safetensors

    try:
        content = checkpoints.read(Path(question["checkpoint"]))
    except JobFailure as failure:
        raise ToolError(failure.reason) from failure
    weights = content["state_dict"]
    out = Path(question["out"])
    try:
        checkpoints.write(out, {"state_dict": weights})
    except OSError as error:
        raise ToolError(f"{out} cannot be written: {error}.") from error
    left_out = write_safetensors(out.with_suffix(".safetensors"), weights)
    return {
        "sha256": sha256(out),
        "not_in_safetensors": left_out,
        "keys": len(weights),
        "bytes": out.stat().st_size,
        "epoch": content["meta"]["epoch"],
        "start": _copy_start(question.get("start"), question.get("start_out")),
    }


def _copy_start(start: Optional[str], out: Optional[str]) -> bool:
    """Write the weights of a starting checkpoint; False where its own file loads, or is gone."""
    import torch

    from pipeline.train.checkpoint_file import read_checkpoint, state_dict_of
    from pipeline.train.checkpoints import write

    if start is None or out is None or not os.path.isfile(start):
        return False
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < (2, 6):
        return False  # MMEngine loads all that a file holds
    try:
        torch.load(start, map_location="cpu", weights_only=True)
    except Exception:  # its refusals differ from release to release
        write(Path(out), {"state_dict": state_dict_of(read_checkpoint(start), start)})
        return True
    return False


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read piece by piece."""
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(serve(export))
