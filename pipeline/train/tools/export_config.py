"""`python -m pipeline.train.tools.export_config`: a trial's config as it is used without a job.

stdin: `{"config": text, "stop": {"monitor", "patience", "min_delta"} or null}`. stdout:
`{"config": text, "pcan": whether its modules need pcan's package, "paths": {loader: [paths of its
data]}}`. What a job leaves to others is settled in the text: hooks that stop, also by inheritance,
give way to the plan's early stopping, other trackers are gone, nothing is loaded or resumed, and
it runs in one process unless who uses it says otherwise.
"""

import os
import sys
import tempfile
from typing import Any, Dict, List

from pipeline.train.compat import has_drn, prepare_mmaction
from pipeline.train.config_file import load
from pipeline.train.config_text import to_text
from pipeline.train.left_out import kind_of
from pipeline.train.tools.resolve_config import data_sets
from pipeline.train.tools.tool import ToolError, serve

STOPS = "EarlyStoppingHook"
#: The one module that brings pcan's models, and the placeholder below.
MODULE = "pipeline.train.model"
#: Modules of pcan that a config's parts may come from.
_OURS = (MODULE, "pipeline.train.transforms")
_PLACEHOLDER = """\
def _placeholder():
    # The released mmaction2 lacks this module, which its own package imports.
    # Written without `import`, by which MMEngine would take this for another style of config.
    sys, types = map(__import__, ("sys", "types"))
    name = "mmaction.models.localizers.drn"
    for part in (name, name + ".drn"):
        sys.modules.setdefault(part, types.ModuleType(part))
    sys.modules[name].__path__ = []
    sys.modules[name + ".drn"].DRN = type("DRN", (), {})


_placeholder()
"""


def export(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    config = _read(question["config"])
    prepare_mmaction()
    _import_modules(config)
    listed = (config.get("custom_imports") or {}).get("imports") or []
    named = [listed] if isinstance(listed, str) else listed
    ours = any(name in sys.modules for name in _OURS)
    ours = ours or any(name.startswith("pipeline.") for name in named)
    stop = question.get("stop")
    _settle_hooks(config, {"type": STOPS, "rule": "greater", **stop} if stop else None)
    config["load_from"], config["resume"] = None, False
    config.pop("launcher", None)  # "slurm" would look for a job wherever the export is used
    _keep_local_trackers(config)
    if ours:
        _import_ours(config)
    head = "" if ours or has_drn() else _PLACEHOLDER
    paths = {name: data_paths(dataset) for name, dataset in data_sets(config).items()}
    return {"config": head + to_text(config, "config.py"), "pcan": ours, "paths": paths}


def _read(text: str) -> Dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.py")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return load(path)[0]


def _import_modules(config: Dict[str, Any]) -> None:
    from mmengine.registry import init_default_scope
    from mmengine.utils import import_modules_from_strings

    try:
        import_modules_from_strings(**(config.get("custom_imports") or {"imports": []}))
        init_default_scope(config.get("default_scope") or "mmengine")
    except Exception as error:  # the user's own modules may raise anything
        raise ToolError(f"custom_imports of the config fail: {error}") from error


def _settle_hooks(config: Dict[str, Any], stop: Any) -> None:
    """Leave out every hook that stops a training, and add the plan's own."""
    default = config.get("default_hooks") or {}
    config["default_hooks"] = {name: one for name, one in default.items() if not stops(one)}
    listed = config.get("custom_hooks") or []
    custom = [one for one in ([listed] if isinstance(listed, dict) else listed) if not stops(one)]
    config["custom_hooks"] = custom + ([stop] if stop else [])


def stops(hook: Any) -> bool:
    """Whether a config's entry is MMEngine's early stopping, or a hook that inherits from it."""
    from mmengine.registry import HOOKS

    if not isinstance(hook, dict):
        return False
    if kind_of(hook) == STOPS:
        return True
    made = HOOKS.get(hook["type"]) if isinstance(hook.get("type"), str) else hook.get("type")
    return isinstance(made, type) and any(base.__name__ == STOPS for base in made.__mro__)


def _keep_local_trackers(config: Dict[str, Any]) -> None:
    """Leave out trackers that a job leaves out: their packages may not be installed here."""
    shown = config.get("visualizer") or {}
    if shown.get("vis_backends"):
        local = [one for one in shown["vis_backends"] if kind_of(one) == "LocalVisBackend"]
        shown["vis_backends"] = local


def _import_ours(config: Dict[str, Any]) -> None:
    given = (config.get("custom_imports") or {}).get("imports") or []
    listed = [given] if isinstance(given, str) else list(given)
    modules = listed if MODULE in listed else [MODULE, *listed]
    config["custom_imports"] = {"imports": modules, "allow_failed_imports": False}


def data_paths(dataset: Dict[str, Any]) -> List[str]:
    """Return where a data set's annotation and files lie, as its loader joins the paths."""
    root = dataset.get("data_root")
    prefix = dataset.get("data_prefix")
    given = [dataset.get("ann_file"), *(prefix.values() if isinstance(prefix, dict) else [prefix])]
    named = [one for one in given if isinstance(one, str) and one]
    return [os.path.join(root, one) if isinstance(root, str) else one for one in named]


if __name__ == "__main__":
    sys.exit(serve(export))
