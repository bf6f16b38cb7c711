"""What is set right in the packages a job imports, before they do anything.

The wheel of mmaction2 1.2.0 was built without `mmaction/models/localizers/drn`, which its
own `localizers/__init__.py` imports. That model is not used here.

MMEngine imports yapf, whose 0.43.0 keeps its grammar in the user's cache: it renames the new
file into place before its bytes are written. On a fresh account the second rank finds an empty
file, and a process killed at that moment leaves one that fails every later import.
"""

import contextlib
import importlib.util
import os
import pickle
import sys
import types
from typing import Any

_DRN = "mmaction.models.localizers.drn"


def prepare_mmaction() -> None:
    """Put a placeholder where the real module is absent; call it before importing mmaction.

    A checkout of MMAction2 that has the module is left alone, and so is a second call.
    """
    if _DRN in sys.modules or has_drn():
        return
    package = types.ModuleType(_DRN)
    package.__path__ = []
    module = types.ModuleType(_DRN + ".drn")
    module.DRN = type("DRN", (), {"__doc__": "Placeholder: not in this mmaction2 wheel."})  # type: ignore[attr-defined]
    sys.modules[_DRN] = package
    sys.modules[_DRN + ".drn"] = module


def read_plain_pickles() -> None:
    """Have MMEngine read `.pkl` files without running what is in them; safe to repeat.

    MMAction2's data sets read annotations by `mmengine.load`, which runs whatever a pickle names.
    This reader knows plain data and NumPy arrays only. What a data set of the user's own
    unpickles by itself is the user's code.
    """
    from mmengine.fileio import register_handler
    from mmengine.fileio.handlers import PickleHandler

    from pipeline.shared.safe_pickle import PlainUnpickler, UnsafePickle

    class PlainPickleHandler(PickleHandler):
        def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
            try:
                return PlainUnpickler(file, **kwargs).load()
            except UnsafePickle as error:
                raise UnsafePickle(
                    f"the annotation is refused: {error}, which no annotation needs and which "
                    "could run code"
                ) from error

    register_handler(["pkl", "pickle"])(PlainPickleHandler)


def prepare_yapf() -> None:
    """Import yapf; where its stored grammar is torn, remove that so that it is made again.

    Removing is safe beside another process that is still writing: it keeps its open file.
    """
    for _ in range(5):
        try:
            import yapf  # noqa: F401
        except (EOFError, pickle.UnpicklingError):
            _forget_grammar()
        except Exception:
            return  # Absent or otherwise broken: MMEngine's import then fails in the job's log.
        else:
            return


def _forget_grammar() -> None:
    from platformdirs import user_cache_dir

    for folder, _, names in os.walk(user_cache_dir("YAPF", "Google")):
        for name in names:
            if "Grammar" in name and name.endswith(".pickle"):
                # Another process may have been faster; the import shows what is left.
                with contextlib.suppress(OSError):
                    os.remove(os.path.join(folder, name))


def has_drn() -> bool:
    """Look for the folder without importing mmaction (`find_spec` of a submodule would)."""
    spec = importlib.util.find_spec("mmaction")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    return any(
        os.path.isdir(os.path.join(folder, "models", "localizers", "drn")) for folder in folders
    )
