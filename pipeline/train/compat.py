"""Mends for released packages that do not work as they come; each names what it mends."""

import importlib.util
import sys
import types
from pathlib import Path

_DRN = "mmaction.models.localizers.drn"


def mend_mmaction() -> bool:
    """Make `import mmaction.models` work with the released wheel.

    The wheel of mmaction2 1.2.0 lacks `mmaction/models/localizers/drn`, which
    `localizers/__init__.py` imports. A placeholder takes its place, only where the real
    module is absent: a user's own checkout has it. Costs no import of mmaction.

    Returns:
        Whether a placeholder was put in.
    """
    spec = importlib.util.find_spec("mmaction")
    if spec is None or _DRN in sys.modules:
        return False
    for root in spec.submodule_search_locations or []:
        localizers = Path(root) / "models" / "localizers"
        if (localizers / "drn").is_dir() or not localizers.is_dir():
            return False
    package = types.ModuleType(_DRN)
    package.__path__ = []
    module = types.ModuleType(_DRN + ".drn")
    module.DRN = type("DRN", (_Absent,), {})
    package.drn = module
    sys.modules[_DRN] = package
    sys.modules[_DRN + ".drn"] = module
    return True


class _Absent:
    """Stands in for a class that the installed mmaction2 lacks."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ImportError(
            f"{type(self).__name__} is missing from the installed mmaction2 1.2.0 wheel; "
            "use a source checkout of MMAction2 (job.code_root)."
        )
