"""Unpickle plain data and NumPy arrays, and nothing that runs code.

`pickle.load` calls whatever a file names. An annotation needs a handful of constructors, all of
NumPy's arrays; anything else is refused by name. Protocols 2, 4 and 5 as NumPy 1 and 2 write them.
Used on both sides, so it keeps to Python 3.8, the standard library and NumPy.
"""

import importlib
import pickle
from typing import Any

import numpy as np

# NumPy 2 moved the module; files of either version are read by either.
_CORES = ("numpy.core", "numpy._core")
ALLOWED = {
    *((core + ".multiarray", name) for core in _CORES for name in ("_reconstruct", "scalar")),
    *((core + ".numeric", "_frombuffer") for core in _CORES),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # protocol 2 writes bytes as latin-1 text
    ("collections", "OrderedDict"),
}


class UnsafePickle(pickle.UnpicklingError):
    """The file calls something that is not plain data; the text names it."""


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that calls nothing but what is in `ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UnsafePickle(f"it calls {module}.{name}")
        if module.startswith(_CORES):
            module = module.replace("numpy._core", "numpy.core")
            if int(np.__version__.split(".")[0]) >= 2:
                module = module.replace("numpy.core", "numpy._core")
        return getattr(importlib.import_module(module), name)
