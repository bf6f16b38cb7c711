"""Read what `torch.save` wrote, by a closed list of constructors, with any version of torch.

`torch.load(weights_only=True)` allows another list in every release (before 2.5 none could be
added to it, and older ones have known holes). Here the list is ours: tensors are rebuilt from the
bytes of their storages, plain containers and NumPy arrays are made as such, and classes that are
known to hold nothing but data become inert records. Whatever else a file names is refused before
it is called. Both of torch's formats are read: the archive (since 1.6) and the older sequence of
pickles.
"""

import collections
import datetime
import io
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Tuple

import torch

from pipeline.shared.foreign_files import other_zip
from pipeline.shared.safe_pickle import ALLOWED as ARRAYS
from pipeline.shared.safe_pickle import PlainUnpickler, UnsafePickle

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_NO_COUNT = "the storage {} has a size that its file does not hold"


class DamagedArchive(Exception):
    """The file ends too early, or its parts do not fit each other."""


class ForeignArchive(Exception):
    """A sound file of another kind; the text says which."""


class Record(dict):
    """An object of a class that holds only data (a config, a path), as plain contents.

    Nothing of the class itself is imported; `state` is what the object was pickled with.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self.args, self.state = args, None  # type: Tuple[Any, ...], Any

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        self.setdefault("items", []).append(item)

    def extend(self, items: List[Any]) -> None:
        self.setdefault("items", []).extend(items)


class _Dtype:
    """Stands for a storage class of torch, `torch.FloatStorage` and its like."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
#: Classes that training frameworks put into `meta`, of which only the contents matter.
_RECORDS = {
    ("argparse", "Namespace"),
    *(("pathlib", kind) for kind in ("PosixPath", "WindowsPath", "Path")),
    *(("pathlib", kind) for kind in ("PurePosixPath", "PureWindowsPath", "PurePath")),
    *(("pathlib._local", kind) for kind in ("PosixPath", "WindowsPath")),
    *(("mmengine.config.config", kind) for kind in ("Config", "ConfigDict")),
    *(("mmcv.utils.config", kind) for kind in ("Config", "ConfigDict")),
    ("addict.addict", "Dict"),
    ("easydict", "EasyDict"),
    *((room, "CfgNode") for room in ("yacs.config", "fvcore.common.config")),
    ("types", "SimpleNamespace"),
    # A few bytes of a file could ask for any amount of memory by these.
    *((room, kind) for room in ("builtins", "__builtin__") for kind in ("range", "bytearray")),
    ("__builtin__", "xrange"),
}
_PLAIN: Dict[Tuple[str, str], Any] = {
    **{("collections", kind): getattr(collections, kind) for kind in ("defaultdict", "Counter")},
    ("collections", "deque"): collections.deque,
    **{
        (room, kind.__name__): kind
        for room in ("builtins", "__builtin__")
        for kind in (set, frozenset, list, dict, tuple, int, float, str, bool, complex, slice)
    },
    **{
        ("datetime", kind): getattr(datetime, kind)
        for kind in ("datetime", "date", "time", "timedelta", "timezone")
    },
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}


#: How torch rebuilds tensors whose values are not one block of numbers.
_OTHER_FORMS = {
    "_rebuild_sparse_tensor": "sparse weights; save weight.to_dense() of each",
    "_rebuild_qtensor": "quantized weights, which cannot be trained on; give those before that",
    "_rebuild_meta_tensor_no_storage": "weights without values (device meta)",
    "_rebuild_nested_tensor": "nested tensors, which no layer has as weights",
    "_rebuild_wrapper_subclass": "tensors of a class of its own; save them as plain tensors",
    "_rebuild_device_tensor_from_numpy": "weights of a device that is not CUDA; save weight.cpu()",
}


def load(path: Path) -> Any:
    """Return what a file of `torch.save` holds, tensors on the CPU.

    Raises:
        UnsafePickle: it names something outside the list; the text is `it calls MODULE.NAME`.
        ForeignArchive: it is a sound file, but not one that `torch.save` wrote.
        DamagedArchive: it is cut short, or its parts do not fit each other.
        OSError: it cannot be read.
    """
    try:
        with open(str(path), "rb") as stream:
            archive = stream.read(4) == b"PK\x03\x04"
            stream.seek(0)
            return _load_archive(stream) if archive else _load_legacy(stream)
    except (UnsafePickle, ForeignArchive, OSError):
        raise
    except (EOFError, zipfile.BadZipFile, struct.error, pickle.UnpicklingError) as error:
        raise DamagedArchive(str(error)) from error
    except Exception as error:  # a pickle with a changed byte raises nearly anything
        raise DamagedArchive(f"{type(error).__name__}: {error}") from error


def _load_archive(stream: BinaryIO) -> Any:
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        root = next((n[: -len("data.pkl")] for n in names if n.endswith("/data.pkl")), None)
        if root is None:
            raise ForeignArchive(other_zip(names))
        if f"{root}constants.pkl" in names:
            raise ForeignArchive("a TorchScript program (torch.jit.save)")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big":
            raise ForeignArchive("written on a big-endian machine")
        pickled = io.BytesIO(archive.read(f"{root}data.pkl"))
        return _Unpickler(pickled, lambda key, _: archive.read(f"{root}data/{key}")).load()


def _load_legacy(stream: BinaryIO) -> Any:
    """Read the older format: four pickles, then every storage's bytes in the order of its key.

    Tensors are rebuilt before their storages' bytes are known, so these are filled in afterwards.
    """
    first = _Unpickler(stream, None).load()
    if first != _MAGIC:
        if isinstance(first, (dict, Record)) and not stream.read(1):
            return first  # a bare pickle of plain data
        raise ForeignArchive(f"a pickle of a {type(first).__name__} that torch.save did not write")
    if _Unpickler(stream, None).load() != _PROTOCOL:
        raise ForeignArchive("an unknown version of torch's older format")
    _Unpickler(stream, None).load()  # the sizes of C's types on the machine that wrote it
    reader = _Unpickler(stream, lambda _, size: bytes(size))
    content = reader.load()
    for key in _Unpickler(stream, None).load():
        storage = reader.storages[str(key)]
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storage.numel():
            raise DamagedArchive(_NO_COUNT.format(key))
        _fill(storage, stream.read(count * storage.element_size()))
    return content


def _fill(storage: torch.Tensor, data: bytes) -> None:
    if len(data) != storage.numel() * storage.element_size():
        raise EOFError
    if data:
        storage.copy_(torch.frombuffer(bytearray(data), dtype=storage.dtype))


class _Unpickler(PlainUnpickler):
    """Args: read_bytes: gives a storage's bytes by its key and size; None where none may occur."""

    def __init__(self, stream: BinaryIO, read_bytes: Any) -> None:
        super().__init__(stream, encoding="utf-8")
        self._read_bytes: Callable[[str, int], bytes] = read_bytes
        #: Flat tensors by key; tensors that share a storage are views of one.
        self.storages: Dict[str, torch.Tensor] = {}

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, dtype, key, _device, count = pid[:5]
        if kind != "storage" or self._read_bytes is None:
            raise DamagedArchive("an unknown kind of reference")
        if str(key) not in self.storages:
            self.storages[str(key)] = self._flat(dtype.dtype, str(key), int(count))
        flat = self.storages[str(key)]
        view = pid[5] if len(pid) > 5 else None
        return flat if view is None else flat[view[1] : view[1] + view[2]]

    def _flat(self, dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
        size = count * torch.empty(0, dtype=dtype).element_size()
        if size == 0:
            return torch.empty(0, dtype=dtype)
        data = bytearray(self._read_bytes(key, size))
        if len(data) < size:
            raise DamagedArchive(_NO_COUNT.format(key))
        return torch.frombuffer(data, dtype=dtype, count=count)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ARRAYS:
            return super().find_class(module, name)
        known = _PLAIN.get((module, name), _TENSORS.get((module, name)))
        if known is not None:
            return known
        if (module, name) in _RECORDS:
            return Record
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _Dtype(_STORAGES[name])
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return _Dtype(torch.uint8)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) == ("mmengine.logging.history_buffer", "HistoryBuffer"):
            from mmengine.logging import HistoryBuffer

            return HistoryBuffer
        if module in ("builtins", "__builtin__") and name == "getattr":
            return _statistic
        return _by_module(module, name)


def _statistic(owner: Any, name: str) -> Any:
    """Stand in for `getattr`, by which a HistoryBuffer names its four statistics."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise UnsafePickle(f"it calls getattr of {name}")
    return getattr(owner, name)


def _by_module(module: str, name: str) -> Any:
    """Return a class of `numpy.dtypes`, by which NumPy 1.25 and later name a plain type.

    Raises:
        ForeignArchive: it names a form of tensors that no training starts from.
        UnsafePickle: it names anything else.
    """
    import numpy as np

    if module == "torch._utils" and name in _OTHER_FORMS:
        raise ForeignArchive(_OTHER_FORMS[name])
    # A type with a length or a unit could be given a state of the file's making.
    plain = re.fullmatch(r"(Bool|Float\d+|Complex\d+|U?Int\d+)DType", name)
    named = module.split(".")[0] == "numpy" and plain
    kind = getattr(getattr(np, "dtypes", None), name, None) if named else None
    if kind is None:
        raise UnsafePickle(f"it calls {module}.{name}")
    return kind


def _tensor(
    flat: torch.Tensor, offset: int, size: Any, stride: Any, requires_grad: bool = False, *_: Any
) -> torch.Tensor:
    if flat.numel() == 0 and 0 in tuple(size):
        return torch.empty(tuple(size), dtype=flat.dtype)
    return flat.as_strided(tuple(size), tuple(stride), offset).requires_grad_(requires_grad)


def _typed_tensor(flat: torch.Tensor, offset: int, size: Any, *rest: Any) -> torch.Tensor:
    stride, requires_grad, _hooks, dtype = rest[:4]
    return _tensor(flat.view(dtype), offset, size, stride, requires_grad)


def _parameter(data: torch.Tensor, requires_grad: bool, *_: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad)


def _from_type(rebuild: Any, _kind: Any, args: Any, _state: Any) -> torch.Tensor:
    """Rebuild a tensor that carries attributes of its own, without them."""
    if rebuild not in _TENSORS.values():
        raise UnsafePickle(f"it calls {rebuild}")
    return rebuild(*args)


_TENSORS: Dict[Tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch", "Tensor"): torch.Tensor,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
}
