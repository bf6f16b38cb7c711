"""`python -m pipeline.train.tools.probe`: what resolved configs would do, without training.

stdin: `{"configs": {name: text}}`. stdout: `{"results": {name: {"lr": [one per epoch] or null,
"lr_error": sentence or null, "problems": [sentences], "classes", "joints"}}}`. Each model is
built once, on the CPU and without weights; one child answers for all, since most of the cost is
importing torch.
"""

import os
import sys
import tempfile
from typing import Any, Dict

from pipeline.train.tools.inspect_checkpoint import build, describe_config
from pipeline.train.tools.schedule import schedule
from pipeline.train.tools.tool import ToolError, serve


def rehearse(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    return {"results": {name: one(name, text) for name, text in question["configs"].items()}}


def one(name: str, text: str) -> Dict[str, Any]:
    """Build one config's schedule and model."""
    return {**_course(text), **_model(name, text)}


def _course(text: str) -> Dict[str, Any]:
    try:
        return {"lr": schedule({"config": text})["lr"], "lr_error": None}
    except ToolError as error:
        return {"lr": None, "lr_error": str(error)}


def _model(name: str, text: str) -> Dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.py")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            found = describe_config(name, *build(path))
        except ToolError as error:
            sentence = str(error).replace(path + ": ", "").replace(path, name)
            return {"problems": [sentence], "classes": None, "joints": None}
    return {key: found[key] for key in ("problems", "classes", "joints")}


if __name__ == "__main__":
    sys.exit(serve(rehearse))
