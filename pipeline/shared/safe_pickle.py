"""Unpickle plain data and NumPy arrays, and nothing that runs code.

`pickle.load` calls whatever a file names. An annotation needs a handful of constructors, all of
NumPy's arrays; anything else is refused by name. Protocols 2, 4 and 5 as NumPy 1 and 2 write them.
NumPy believes what a pickled type says of itself, also that plain bytes are pointers to objects.
So a file gives stand-ins their state; types are made of them by NumPy's public constructors, and
arrays of those types.
Used on both sides, so it keeps to Python 3.8, the standard library and NumPy.
"""

import collections
import pickle
from typing import Any, Dict, Iterable, List, Tuple

import numpy as np


class UnsafePickle(pickle.UnpicklingError):
    """The file calls something that is not plain data; the text names it."""


class _TypeState:
    """A pickled `numpy.dtype`: its code, such as `f4`, and what NumPy wrote of it."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str):
            raise UnsafePickle(f"it makes a NumPy type of a {type(code).__name__}")
        self._code: Any = code
        self._state: Tuple[Any, ...] = ()

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        self._state = state

    def build(self) -> Any:
        if not self._state:
            return np.dtype(self._code)
        order, inner, names, fields, size = self._state[1:6]
        if names:
            formats = [fields[name][0].build() for name in names]
            offsets = [fields[name][1] for name in names]
            parts = {"names": list(names), "formats": formats, "offsets": offsets}
            described: Any = {**parts, "itemsize": size}
            return np.dtype(described)
        if inner:
            return np.dtype((inner[0].build(), inner[1]))
        # By its text, so that what has this machine's order is NumPy's own type again.
        return np.dtype(np.dtype(self._code + self._unit()).newbyteorder(order).str)

    def _unit(self) -> str:
        """Return `[ns]` or the like of a time, which is its only state beside the byte order."""
        if self._code not in ("M8", "m8"):
            return ""
        unit, count = self._state[8][1][:2]
        return f"[{int(count)}{unit.decode()}]"


class _ArrayState:
    """A pickled `numpy.ndarray`: shape, type, order, and its bytes or the objects it holds."""

    def __init__(self, *_: Any) -> None:
        self._state: Any = None
        self._built: Any = None

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        self._state = state

    def build(self) -> Any:
        """Return the array, the same one each time."""
        if self._built is None:
            version, shape, kind, fortran, content = self._state
            self._built = np.ndarray((0,))
            self._built.__setstate__((version, shape, kind.build(), fortran, content))
        return self._built


def _reconstruct(kind: Any, *_: Any) -> _ArrayState:
    if kind is not _ArrayState:
        raise UnsafePickle(f"it makes an array of {kind!r}")
    return _ArrayState()


def _from_buffer(buffer: Any, kind: _TypeState, shape: Any, order: Any, *_: Any) -> Any:
    return np.frombuffer(buffer, dtype=kind.build()).reshape(shape, order=order)


def _scalar(kind: _TypeState, content: Any = b"") -> Any:
    real = kind.build()
    if real.hasobject:
        raise UnsafePickle("it makes a NumPy scalar of an object")
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, dtype=real)[0] if real.itemsize else real.type()


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"it calls the codec {encoding}")
    return text.encode("latin1")


def _no_bytes(*content: Any) -> bytes:
    if content:
        raise UnsafePickle("it makes bytes of something else")
    return b""


# NumPy 2 moved the module; files of either version are read by either.
_CORES = ("numpy.core", "numpy._core")
#: What stands for each constructor that a file may name.
ALLOWED: Dict[Tuple[str, str], Any] = {
    **{(core + ".multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(core + ".multiarray", "scalar"): _scalar for core in _CORES},
    **{(core + ".numeric", "_frombuffer"): _from_buffer for core in _CORES},
    ("numpy", "ndarray"): _ArrayState,
    ("numpy", "dtype"): _TypeState,
    ("_codecs", "encode"): _encode,  # protocol 2 writes bytes as latin-1 text
    **{(room, "bytes"): _no_bytes for room in ("builtins", "__builtin__")},  # so it writes none
    ("collections", "OrderedDict"): collections.OrderedDict,
}


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that calls nothing but what is in `ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UnsafePickle(f"it calls {module}.{name}")
        return ALLOWED[module, name]

    def load(self) -> Any:
        return _built(super().load())


_LEAVES = (str, bytes, int, float, bool, type(None), type)


def _built(root: Any) -> Any:
    """Return `root` with arrays and types in place of their stand-ins, at any depth."""
    box = [root]
    waiting: List[Any] = [box]
    # Of containers and tuples already met; what is kept here has no other's id.
    seen: Dict[int, Any] = {}
    while waiting:
        holder = waiting.pop()
        for key, value in _slots(holder):
            if isinstance(value, _LEAVES):
                continue
            real = _real(value, waiting, seen)
            if real is not value:
                holder[key] = real
    return box[0]


def _slots(holder: Any) -> Iterable[Tuple[Any, Any]]:
    if isinstance(holder, dict):
        return list(holder.items())
    return enumerate(holder)


def _real(value: Any, waiting: List[Any], seen: Dict[int, Any]) -> Any:
    """Return what belongs in the place of `value`; containers are looked into later, once each."""
    if type(value) is tuple:
        if id(value) not in seen:
            parts = tuple(_real(part, waiting, seen) for part in value)
            same = all(new is old for new, old in zip(parts, value))
            seen[id(value)] = (value, value if same else parts)
        return seen[id(value)][1]
    if isinstance(value, (_ArrayState, _TypeState)):
        value = value.build()
    for owner, holder in _holders(value):
        if id(owner) not in seen:
            seen[id(owner)] = owner
            waiting.append(holder)
    return value


def _holders(value: Any) -> Iterable[Tuple[Any, Any]]:
    """Yield what may hold stand-ins, with that by which it is known and that written to by key."""
    if isinstance(value, np.ndarray):
        # What was pickled lies in one block, so this is a view; its parent holds it too.
        if value.dtype == object:
            yield value, value.ravel(order="K")
        elif value.dtype.hasobject:
            raise UnsafePickle("it has an array with objects in its fields")
        return
    if isinstance(value, (list, dict, collections.deque)):
        yield value, value
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and attributes:
        yield attributes, attributes
