"""What mmaction2's wheel lacks, mended before its first import.

The wheel of mmaction2 1.2.0 was built without `mmaction/models/localizers/drn`, which its
own `localizers/__init__.py` imports. Nobody here uses that model.
"""

import importlib.util
import os
import sys
import types

_DRN = "mmaction.models.localizers.drn"


def prepare_mmaction() -> None:
    """Put a placeholder where the real module is absent; call it before importing mmaction.

    A checkout of MMAction2 that has the module is left alone, and so is a second call.
    """
    if _DRN in sys.modules or _has_drn():
        return
    package = types.ModuleType(_DRN)
    package.__path__ = []  # type: ignore[attr-defined]
    module = types.ModuleType(_DRN + ".drn")
    module.DRN = type("DRN", (), {"__doc__": "Placeholder: not in this mmaction2 wheel."})  # type: ignore[attr-defined]
    sys.modules[_DRN] = package
    sys.modules[_DRN + ".drn"] = module


def _has_drn() -> bool:
    """Look for the folder without importing mmaction (`find_spec` of a submodule would)."""
    spec = importlib.util.find_spec("mmaction")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    return any(
        os.path.isdir(os.path.join(folder, "models", "localizers", "drn")) for folder in folders
    )
