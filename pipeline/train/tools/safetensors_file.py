"""Weights in the safetensors form: a JSON head with names, types and places, then the bytes.

Written here because a job's own environment need not have the library; the form is its published
one, and the library reads the result in the tests. Loading such a file runs no code.
"""

import json
import struct
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import torch

from pipeline.shared.files import replacing

#: torch's types by the names of the form.
TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
#: The head is filled up with spaces, so that the numbers begin at a multiple of this.
ALIGNED = 8


def write_safetensors(path: Path, weights: Mapping[str, Any]) -> List[str]:
    """Write tensors, the ones with the widest numbers first, so that each is aligned.

    Returns:
        The names that are left out: of entries that are not tensors, or of a type without a name.
    """
    usable = {n: t for n, t in weights.items() if torch.is_tensor(t) and t.dtype in TYPES}
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


def _head(ordered: List[Tuple[str, torch.Tensor]]) -> Tuple[Dict[str, Any], int]:
    """Return the head and the number of bytes that follow it."""
    head: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, tensor in ordered:
        end = place + tensor.numel() * tensor.element_size()
        head[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, end],
        }
        place = end
    return head, place


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
