"""Make `pipeline` this package in a job's Python, whatever lies in its working directory.

`python -m` puts the working directory first on the path, and a user's checkout comes next; either
may hold a package of the same name. Python imports this module before that: its folder, which
holds nothing else, is the first entry of a job's PYTHONPATH. Runs on Python 3.8.
"""

import gc
import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.realpath(__file__))


def _pin_package() -> None:
    """Load the package from the folder around this one, without adding a path entry."""
    package = os.path.dirname(_HERE)
    spec = importlib.util.spec_from_file_location(
        "pipeline",
        os.path.join(package, "__init__.py"),
        submodule_search_locations=[package],
    )
    assert spec is not None and spec.loader is not None, "a file beside this folder"
    module = importlib.util.module_from_spec(spec)
    sys.modules["pipeline"] = module
    spec.loader.exec_module(module)


def _run_the_sites_own() -> None:
    """Run the `sitecustomize` that this one hides, if the environment has one."""
    others = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _import_without_collecting() -> None:
    """Let `python -m` import without a search for garbage, which is a tenth of its time.

    torch and MMEngine make about 400,000 objects that all stay. Before it trains, a rank collects
    as usual again (`pipeline/train/rank_process.py`); torchrun and tools leave little garbage.
    """
    if getattr(sys, "argv", [])[:1] == ["-m"]:
        gc.set_threshold(500_000)


_import_without_collecting()
_pin_package()
_run_the_sites_own()
