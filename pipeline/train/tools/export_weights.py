"""`python -m pipeline.train.tools.export_weights`: the weights of a checkpoint, and nothing else.

stdin: `{"checkpoint": path, "out": path, "start": path or null, "start_out": path}`. stdout:
`{"sha256", "not_in_safetensors", "keys", "bytes", "epoch", "start": whether start_out was
written}`. The file is `{"state_dict": {name: tensor}}`: it loads with `weights_only=True` and by
MMEngine's `load_checkpoint`. Prototypes are buffers of the model and so part of it. A file in the
safetensors form stands beside it, and the starting weights where MMEngine could not load their own
file with this torch.

That form is a JSON head with names, types and places, then the bytes; loading it runs no code. It
is written here because a job's own environment need not have the library, which reads the result
in the tests.
"""

import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from pipeline.shared.files import replacing
from pipeline.train.outcome import JobFailure
from pipeline.train.tools.tool import ToolError, serve

#: The form's names of types, by torch's.
TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
#: The head is filled up with spaces, so that the numbers begin at a multiple of this.
ALIGNED = 8


def export(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    for name in ("checkpoint", "out"):
        if not isinstance(question.get(name), str):
            raise ToolError(f'The question has no "{name}".')
    from pipeline.train import checkpoints

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


def write_safetensors(path: Path, weights: Mapping[str, Any]) -> List[str]:
    """Write tensors, the ones with the widest numbers first, so that each is aligned.

    Returns:
        The names that are left out: of entries that are not tensors, or of a type without a name.
    """
    import torch

    tensors = {name: one for name, one in weights.items() if torch.is_tensor(one)}
    usable = {name: one for name, one in tensors.items() if _type_of(one) in TYPES}
    ordered = sorted(usable.items(), key=lambda pair: (-pair[1].element_size(), pair[0]))
    head, _ = _head(ordered)
    text = json.dumps(head, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % ALIGNED)
    with replacing(path) as stream:
        stream.write(struct.pack("<Q", len(text)))
        stream.write(text)
        for _, tensor in ordered:
            stream.write(_bytes(tensor))
    return sorted(set(weights) - set(usable))


def _head(ordered: List[Tuple[str, Any]]) -> Tuple[Dict[str, Any], int]:
    """Return the head and the number of bytes that follow it."""
    head: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, tensor in ordered:
        end = place + tensor.numel() * tensor.element_size()
        head[name] = {
            "dtype": TYPES[_type_of(tensor)],
            "shape": list(tensor.shape),
            "data_offsets": [place, end],
        }
        place = end
    return head, place


def _type_of(tensor: Any) -> str:
    return str(tensor.dtype).replace("torch.", "", 1)


def _bytes(tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


if __name__ == "__main__":
    sys.exit(serve(export))
