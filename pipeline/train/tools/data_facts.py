"""Returns what configs say about their data: `python -m pipeline.train.tools.data_facts`.

Asks `{"configs": {name: text}}`, answers `{"loaders": {name: [...], or null for another form}}`.
"""

import os
import sys
import tempfile
from typing import Any, Dict, List, Optional

from pipeline.train.data_chain import ChainError, facts
from pipeline.train.tools.tool import ToolError, serve


def answer(question: Dict[str, Any]) -> Dict[str, Any]:
    """Load the configs without importing what they name, and describe their loaders."""
    return {"loaders": {name: _of_text(text) for name, text in question["configs"].items()}}


def _of_text(text: str) -> Optional[List[Dict[str, Any]]]:
    from mmengine.config import Config

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.py")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            config = Config.fromfile(path, import_custom_modules=False)
        except Exception as error:
            raise ToolError(f"{path} cannot be loaded: {error}") from error
        try:
            return facts(config)
        except (ChainError, KeyError, TypeError):
            return None


if __name__ == "__main__":
    sys.exit(serve(answer))
