"""Returns what configs say about their data: `python -m pipeline.train.tools.data_facts`.

Asks `{"config": path, "data_root": path or null}`, answers `{"loaders": [...], "classes":
number or null}`; or asks `{"configs": {name: text}}`, answers `{"loaders": {name: [...], or null
for another form}}`.
"""

import os
import sys
import tempfile
from typing import Any, Dict, List, Optional

from pipeline.train.data_chain import ChainError, facts
from pipeline.train.tools.tool import ToolError, serve


def answer(question: Dict[str, Any]) -> Dict[str, Any]:
    """Load the configs without importing what they name, and describe their loaders."""
    if "configs" in question:
        return {"loaders": {name: _of_text(text) for name, text in question["configs"].items()}}
    path = question["config"]
    config = _load(path)
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


def _load(path: str) -> Any:
    from mmengine.config import Config

    try:
        return Config.fromfile(path, import_custom_modules=False)
    except Exception as error:
        raise ToolError(f"{path} cannot be loaded: {error}") from error


def _of_text(text: str) -> Optional[List[Dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.py")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            return facts(_load(path))
        except (ChainError, KeyError, TypeError):
            return None


def moved(path: str, old: Any, new: str) -> str:
    """Return a path below `old` as the same path below `new`; others as they are."""
    below = old.rstrip("/") if isinstance(old, str) else None
    if below and (path.rstrip("/") == below or path.startswith(below + "/")):
        return new.rstrip("/") + path[len(below) :]
    return path


if __name__ == "__main__":
    sys.exit(serve(answer))
