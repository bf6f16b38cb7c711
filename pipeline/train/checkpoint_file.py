"""Read a checkpoint file without ever running code that is in it.

`safe_archive` reads; what is not a checkpoint at all is named by `pipeline.shared.foreign_files`.
"""

from pathlib import Path
from typing import Any, Dict, Union

import torch

from pipeline.shared.foreign_files import checkpoint_problem
from pipeline.shared.safe_pickle import UnsafePickle
from pipeline.train.safe_archive import DamagedArchive, ForeignArchive, load

#: Where frameworks put a model's weights: MMEngine and Lightning, scripts of torch, DeepSpeed.
_WEIGHTS_UNDER = ("state_dict", "model_state_dict", "model", "module", "net", "network")
#: Parts of names that torch.compile, FSDP and activation checkpointing insert, at any depth.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
#: What averaged models hold beside the model: torch's, MMEngine's.
_COUNTERS = {"n_averaged", "steps"}
_SHOWN = 8
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
    """Return the model's tensors by the names they have without wrappers."""
    inner = (content[name] for name in _WEIGHTS_UNDER if isinstance(content.get(name), dict))
    for tensors in (*inner, content):
        found = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
        if found:
            break
    else:
        raise CheckpointError(
            f"{path} holds no model weights ({_without_tensors(content)}). "
            "Give a checkpoint that the training framework saved."
        )
    return _without_wrappers(found)


def _without_wrappers(tensors: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """Return tensors by names without what torch's wrappers put before or into them."""
    inner = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): value
        for name, value in tensors.items()
    }
    # Data-parallel wrappers and averages put it before every name, averages count beside it.
    while (rest := set(inner) - _COUNTERS) and all(n.startswith("module.") for n in rest):
        inner = {name[len("module.") :]: inner[name] for name in inner if name in rest}
    return inner


def _without_tensors(content: Dict[str, Any]) -> str:
    """Say what is there instead of tensors."""
    under = next((n for n in _WEIGHTS_UNDER if isinstance(content.get(n), dict)), None)
    has = ", ".join(sorted(map(str, content if under is None else content[under]))[:_SHOWN])
    if under is None:
        return f"no tensors under state_dict; it has: {has or 'nothing'}"
    kinds = sorted({type(value).__name__ for value in content[under].values()})
    return f"its {under} has {f'{has}, of type ' + ', '.join(kinds) if has else 'no entries'}"


def _refuse_non_checkpoint(path: Path) -> None:
    what = checkpoint_problem(path)
    if what is not None:
        raise CheckpointError(what)


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """Put into a sentence why a file was not read."""
    size = path.stat().st_size
    if isinstance(error, UnsafePickle):
        return UnsafeCheckpoint(
            f"{path} was refused: loading it would run {str(error)[len('it calls ') :]}, which is "
            "not plain data. Use a file that holds weights only: if the whole model was saved, "
            "have the code that made it save model.state_dict()."
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
