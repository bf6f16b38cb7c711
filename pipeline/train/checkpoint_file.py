"""Read a checkpoint file without ever running code that is in it.

`torch.load(weights_only=True)` with the few classes that mmengine's own files hold. What is
not a checkpoint at all (empty, HTML, a Git LFS pointer, cut short) is named as such.
"""

import contextlib
import os
import pickletools
import re
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Union

import numpy as np
import torch

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
        with allow_mmengine_classes(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch's warning on pickle protocols does not help here
            content = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types here, by format and version
        raise _explain(path, error) from error
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


def allow_mmengine_classes() -> "contextlib.AbstractContextManager[Any]":
    """Allow, while the context is open, the classes in mmengine 0.10's full checkpoints.

    Its message hub keeps `HistoryBuffer`s, which hold NumPy arrays and scalars. All of them
    are plain data. Without this, mmengine cannot read its own files on torch >= 2.6.
    """
    safe_globals = getattr(torch.serialization, "safe_globals", None)  # torch >= 2.5
    return _nothing() if safe_globals is None else safe_globals(_allowed())


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


def _allowed() -> List[Any]:
    from mmengine.logging import HistoryBuffer

    arrays = np.array([0.0]).__reduce__()[0]
    scalar = np.float64(0.0).__reduce__()[0]
    allowed: List[Any] = [HistoryBuffer, np.ndarray, np.dtype, arrays, scalar]
    allowed += [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u8", "?")]
    # A HistoryBuffer names its four statistics by `getattr`. That function itself could reach
    # anything, so the file gets a stand-in that knows these four and nothing else.
    allowed.append((_statistic, "builtins.getattr"))
    # NumPy 2 moved its private module; a file names the one it was written with.
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(arrays, module + "._reconstruct"), (scalar, module + ".scalar")]
    return allowed


def _statistic(owner: Any, name: str) -> Any:
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise UnsafeCheckpoint(f"GLOBAL getattr of {name}")
    return getattr(owner, name)


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


def _explain(path: Path, error: Exception) -> CheckpointError:
    """Turn torch's many errors into one sentence; unsafe content is named."""
    text, size = str(error), path.stat().st_size
    # A name that ends in a dot was cut off with the file.
    found = re.search(r"nsupported (?:global: )?GLOBAL ([\w.]*\w)\b(?!\.)|(getattr of \w+)", text)
    foreign = [found.group(1) or found.group(2)] if found else _names_in_pickle(path)
    if foreign:
        return UnsafeCheckpoint(
            f"{path} was refused: loading it would run {foreign[0]}, which is not plain data. "
            "Use a file that holds weights only."
        )
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


def _names_in_pickle(path: Path) -> List[str]:
    """List what a bare pickle would import beyond plain data, by reading its opcodes only.

    torch's own reader stops at the first opcode it does not know and then names a number.
    """
    with open(str(path), "rb") as stream:
        if stream.read(1) != b"\x80":
            return []
        stream.seek(0)
        strings, names = [], []  # type: List[str], List[str]
        with contextlib.suppress(Exception):  # a damaged pickle ends where it ends
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    names.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    return [name for name in names if name.split(".")[0] not in ("torch", "collections", "numpy")]
