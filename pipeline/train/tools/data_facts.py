"""Returns what a config says about its data: `python -m pipeline.train.tools.data_facts`.

Asks `{"config": path, "data_root": path or null}`, answers `{"loaders": [...], "classes":
number or null}`.
"""

import sys
from typing import Any, Dict

from pipeline.train.data_chain import ChainError, facts
from pipeline.train.tools.tool import ToolError, serve


def answer(question: Dict[str, Any]) -> Dict[str, Any]:
    """Load the config without importing what it names, and describe its loaders."""
    from mmengine.config import Config

    path = question["config"]
    try:
        config = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:
        raise ToolError(f"{path} cannot be loaded: {error}") from error
    root, old = question.get("data_root"), config.get("data_root")
    try:
        loaders = facts(config)
    except ChainError as error:
        raise ToolError(f"{path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise ToolError(f"{path} has a loader of another form (no {error}).") from error
    if root is not None:
        for loader in loaders:
            for key in ("ann_file", "videos"):
                loader[key] = moved(loader[key], old, root)
    head = (config.get("model") or {}).get("cls_head") or {}
    return {"loaders": loaders, "classes": head.get("num_classes")}


def moved(path: str, old: Any, new: str) -> str:
    """Return a path below `old` as the same path below `new`; others as they are."""
    below = old.rstrip("/") if isinstance(old, str) else None
    if below and (path.rstrip("/") == below or path.startswith(below + "/")):
        return new.rstrip("/") + path[len(below) :]
    return path


if __name__ == "__main__":
    sys.exit(serve(answer))
