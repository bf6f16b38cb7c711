"""Read a checkpoint file without ever running code that is in it.

`safe_archive` reads; this names what is not a checkpoint at all: an empty file, a web page, a Git
LFS pointer, weights of another format, a file that was cut short.
"""

import os
import re
from pathlib import Path
from typing import Any, Dict, Union

import torch

from pipeline.shared.safe_pickle import UnsafePickle
from pipeline.train.safe_archive import DamagedArchive, ForeignArchive, load

_LFS = b"version https://git-lfs"
_ZIP = b"PK\x03\x04"


class CheckpointError(Exception):
    """A sentence for the user: why this file cannot be used as a checkpoint."""


class UnsafeCheckpoint(CheckpointError):
    """The file asks for classes or functions outside the allow-list."""


def read_checkpoint(path: Union[str, Path]) -> Dict[str, Any]:
    """Return what a checkpoint file holds, on the CPU.

    Raises:
        CheckpointError: the file is missing, not a checkpoint, damaged, or unsafe.
    """
    path = Path(path).expanduser()
    _refuse_non_checkpoint(path)
    try:
        content = load(path)
    except (UnsafePickle, ForeignArchive, DamagedArchive, OSError) as error:
        raise _refusal(path, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a checkpoint (a table of names)."
        )
    return content


def state_dict_of(content: Dict[str, Any], path: Union[str, Path] = "") -> Dict[str, torch.Tensor]:
    """Return the model's tensors by name, without the `module.` of a data-parallel wrapper."""
    tensors = content.get("state_dict", content)
    tensors = tensors if isinstance(tensors, dict) else {}
    found = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise CheckpointError(
            f"{path} holds no model weights (no tensors under state_dict). "
            "Give a checkpoint that the training framework saved."
        )
    if all(name.startswith("module.") for name in found):
        found = {name[len("module.") :]: value for name, value in found.items()}
    return found


#: How files of other formats begin; a safetensors file begins with the length of its JSON header.
_OTHER_FORMATS = (
    (rb"\x89HDF", "an HDF5 file (Keras?)"),
    (rb"\x1f\x8b", "compressed with gzip; unpack it: gunzip FILE"),
    (rb"\xfd7zXZ|BZh|7z\xbc|Rar!", "a compressed archive; unpack it first"),
    (rb".{7}\x00\{\s*\"", "in the safetensors format; convert it with torch.save"),
    (rb"\x93NUMPY", "a NumPy array"),
)


def _refuse_non_checkpoint(path: Path) -> None:
    if not os.path.isfile(str(path)):  # False also for a name that no file system would take
        raise CheckpointError(f"There is no checkpoint file {path}. Correct that path.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"The checkpoint {path} is empty (0 bytes). Copy it again.")
    with open(str(path), "rb") as stream:
        head = stream.read(512)
    if head.startswith(_LFS):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the checkpoint itself. Fetch it: git lfs pull"
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint (it starts with "
            f"{head.strip()[:15].decode('latin-1')!r}). Download the file itself."
        )
    for start, what in _OTHER_FORMATS:
        if re.match(start, head, re.DOTALL):
            raise CheckpointError(f"{path} is not a checkpoint of torch: it is {what}.")


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """Put into a sentence why a file was not read."""
    size = path.stat().st_size
    if isinstance(error, UnsafePickle):
        return UnsafeCheckpoint(
            f"{path} was refused: loading it would run {str(error)[len('it calls ') :]}, which is "
            "not plain data. Use a file that holds weights only."
        )
    if isinstance(error, ForeignArchive):
        return CheckpointError(f"{path} is not a checkpoint but {error}.")
    if isinstance(error, OSError):
        return CheckpointError(f"{path} cannot be read: {error.strerror or error}.")
    if _starts_as_checkpoint(path):
        return CheckpointError(
            f"The checkpoint {path} is damaged or cut short at {size} bytes. Copy it again."
        )
    return CheckpointError(
        f"{path} ({size} bytes) is not a checkpoint: it is neither a torch archive nor a pickle."
    )


def _starts_as_checkpoint(path: Path) -> bool:
    with open(str(path), "rb") as stream:
        head = stream.read(4)
    return head.startswith(_ZIP) or head[:1] == b"\x80"
