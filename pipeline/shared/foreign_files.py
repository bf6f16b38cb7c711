"""What a file or folder is that is given as a checkpoint and is not one of torch.

By its first bytes and the names in it; nothing is loaded. Shared with the job side: Python 3.8.
"""

import gzip
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import List, Optional

_LFS = b"version https://git-lfs"
#: Pickles of protocol 0 are text as well.
_PICKLED_TEXT = re.compile(rb"[(\[\]{}]*[dlt\]}(]p?\d*\n|c[\w.]+\n[\w.]+\n|[IFSVL].*\n[.p]")
_BOM = b"\xef\xbb\xbf"
#: How files of other formats begin; a safetensors file begins with the length of its JSON header.
_STARTS = (
    (rb"\x89HDF", "an HDF5 file (Keras?)"),
    (rb"\xfd7zXZ|BZh|7z\xbc|Rar!|\x28\xb5\x2f\xfd", "a compressed archive; unpack it first"),
    (rb".{7}\x00\{\s*\"", "in the safetensors format; convert it with torch.save"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"GGUF", "in the GGUF format of llama.cpp"),
    (rb"\x08[\x01-\x1f](?:\x12|\x1a|\x3a)[\x01-\x40][\w.\- ]{3}", "an ONNX model"),
    (rb"[\x80-\x8f\xde\xdf].{0,2}[\xa1-\xbf\xd9](?:params|model|opt|step|target)", "a Flax state"),
    (rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", "a video"),
    (rb"\0{512}", "nothing but zeros; its copy broke off. Copy it again"),
)
#: Files that hold weights, as they are named in archives and folders.
_WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".tar", ".pkl")
#: What stands in a folder, and what that folder is.
_FOLDERS = (
    (
        r"(^|/)(mp_rank_\d+_model_states\.pt|zero_pp_rank_\d+)",
        "a checkpoint of DeepSpeed in parts; join them: python zero_to_fp32.py FOLDER FILE",
    ),
    (
        r"\.distcp$",
        "a distributed checkpoint; convert it: python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE",
    ),
    (r"(^|/)saved_model\.pb$", "a SavedModel of TensorFlow"),
    (r"(^|/)data\.pkl$", "an unpacked checkpoint; give the file that it was unpacked from"),
)
_SHOWN = 40


def checkpoint_problem(path: Path) -> Optional[str]:
    """Return a sentence on why a checkpoint cannot be read from a path, None if it may be."""
    if not os.path.exists(str(path)):  # False also for a name that no file system would take
        return f"There is no checkpoint file {path}. Correct that path."
    try:
        return not_a_checkpoint(path)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}."


def not_a_checkpoint(path: Path) -> Optional[str]:
    """Return a sentence on what is in the place of a checkpoint, None if it may be one.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return _folder(path)
    with open(str(path), "rb") as stream:
        head = stream.read(512)
    if not head:
        return f"The checkpoint {path} is empty (0 bytes). Copy it again."
    if head.startswith(_LFS):
        return f"{path} is a Git LFS pointer, not the checkpoint itself. Fetch it: git lfs pull"
    text = None if _PICKLED_TEXT.match(head) else _text(head)
    if text is not None and text.startswith("<"):
        return (
            f"{path} is a web page, not a checkpoint (it starts with {text[:15]!r}). Download the "
            "file itself."
        )
    if text is not None:
        return (
            f"{path} is text, not a checkpoint (it starts with {text[:_SHOWN]!r}). If that is a "
            "server's message, download the file again."
        )
    what = _binary(path, head)
    return None if what is None else f"{path} is not a checkpoint of torch: it is {what}."


def other_zip(names: List[str]) -> str:
    """Return what a zip archive is that has no pickle of torch, by the names in it."""
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays"
    if any(name.endswith("model.weights.h5") for name in names):
        return "a model of Keras"
    if any(re.search(r"serialized_exported_program|archive_format$|models/", n) for n in names):
        return "a program of torch.export; save the model's state_dict() instead"
    weights = [name for name in names if name.endswith(_WEIGHTS)]
    if weights:
        return f"a zip archive that holds {weights[0]}; unpack it and give that file"
    return "another kind of zip"


def _text(head: bytes) -> Optional[str]:
    """Return the first line of a text, None of binary content."""
    plain = head[len(_BOM) :] if head.startswith(_BOM) else head
    try:
        text = plain.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(plain) - 4:  # not merely a letter cut in two
            return None
        text = plain[: error.start].decode("utf-8")
    if any(ord(c) < 32 and c not in "\t\r\n\f" for c in text):
        return None
    return (text.strip().splitlines() or [""])[0]


def _binary(path: Path, head: bytes) -> Optional[str]:
    if head.startswith(b"\x1f\x8b"):
        return _gzip(path)
    if head[257:262] == b"ustar":
        return _tar(head)
    if head.startswith(b"PK\x03\x04") and _is_zip(path):
        return None  # torch's own, or named by its reader
    for start, what in _STARTS:
        if re.match(start, head, re.DOTALL):
            return what
    return None


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(str(path))
    except zipfile.BadZipFile:  # one whose end says that it is in several parts
        return True


def _gzip(path: Path) -> str:
    try:
        with gzip.open(str(path)) as stream:
            inside = stream.read(512)
    except (OSError, EOFError, zlib.error):
        inside = b""
    if inside[257:262] == b"ustar":
        first = inside[:100].rstrip(b"\0").decode("utf-8", "replace")
        return (
            f"a tar archive compressed with gzip (first in it: {first}); unpack it: tar xzf FILE"
        )
    return "compressed with gzip; unpack it: gunzip FILE"


def _tar(head: bytes) -> str:
    first = head[:100].rstrip(b"\0").decode("utf-8", "replace")
    if first in ("sys_info", "pickle", "tensors", "storages"):
        return "in torch's oldest format (before 0.1.10); load and save it with an old torch"
    return f"a tar archive (first in it: {first}); unpack it: tar xf FILE"


def _folder(path: Path) -> str:
    """Return what a folder is, with the file in it that may be meant."""
    names = sorted(str(p.relative_to(path)) for p in path.glob("*")) + sorted(
        str(p.relative_to(path)) for p in path.glob("*/*")
    )
    for pattern, what in _FOLDERS:
        if any(re.search(pattern, name.replace("\\", "/")) for name in names):
            return f"{path} is a folder: {what}."
    weights = [name for name in names if name.endswith(_WEIGHTS)]
    if weights:
        return f"{path} is a folder; give a file in it, such as {path / weights[0]}."
    return f"{path} is a folder without a checkpoint. Correct that path."
