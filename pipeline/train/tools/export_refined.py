"""`python -m pipeline.train.tools.export_refined`: config and weights of a refined result.

stdin: `{"configs": [text of each model's config], "weights": [file of each], "clips", "flip",
"ratio": {"rgb", "log"}, "out": path}`. stdout: `{"config": text, "sha256", "keys", "bytes"}`. With
several models the first config is the frame, and its model a `ScoreEnsemble` of all. Files are
checkpoints, or weights alone; what is written is weights alone.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from pipeline.train.tools.tool import ToolError, serve

TRANSFORMS = "pipeline.train.transforms"
MODEL = "pipeline.train.model"


def export(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    from pipeline.train import checkpoints
    from pipeline.train.config_text import to_text
    from pipeline.train.tools.export_weights import sha256

    configs = [_load(text) for text in question["configs"]]
    config = refined(configs, question)
    states = [_weights(Path(file)) for file in question["weights"]]
    state = states[0] if len(states) == 1 else _merged(states)
    out = Path(question["out"])
    checkpoints.write(out, {"state_dict": state})
    return {
        "config": to_text(config, "the refined config"),
        "sha256": sha256(out),
        "keys": len(state),
        "bytes": out.stat().st_size,
    }


def refined(configs: List[Dict[str, Any]], question: Dict[str, Any]) -> Dict[str, Any]:
    """Return the config that shows, joins and counts clips as the refinement does."""
    from pipeline.train.test_views import ViewError, with_views

    config = configs[0]
    for split in ("val", "test"):
        if not config.get(f"{split}_dataloader"):
            continue
        try:
            with_views(config, split, question["clips"], question["flip"])
        except ViewError as error:
            # A test loader that shows several views by itself stays as it is.
            if split == "val":
                raise ToolError(f"The clips cannot be shown so: {error}.") from error
        metric = {"type": "RatioAccMetric", **question["ratio"]}
        evaluator = config.get(f"{split}_evaluator") or []
        listed = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
        config[f"{split}_evaluator"] = [*listed, metric]
    if len(configs) > 1:
        config["model"] = {"type": "ScoreEnsemble", "members": [c["model"] for c in configs]}
    _import(config, [MODEL, *([TRANSFORMS] if question["flip"] else [])])
    return config


def _import(config: Dict[str, Any], modules: List[str]) -> None:
    named = dict(config.get("custom_imports") or {"allow_failed_imports": False})
    imports = list(named.get("imports") or [])
    config["custom_imports"] = {
        **named,
        "imports": imports + [one for one in modules if one not in imports],
    }


def _load(text: str) -> Dict[str, Any]:
    """Return a resolved config's text as plain dicts."""
    from pipeline.train.config_file import load

    handle, name = tempfile.mkstemp(suffix=".py")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        return load(name)[0]
    finally:
        os.unlink(name)


def _weights(file: Path) -> Dict[str, Any]:
    from pipeline.train.checkpoint_file import CheckpointError, read_checkpoint

    try:
        return dict(read_checkpoint(file)["state_dict"])
    except (CheckpointError, KeyError) as error:
        raise ToolError(f"{file} cannot be opened: {error}") from error


def _merged(states: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {
        f"members.{number}.{name}": tensor
        for number, state in enumerate(states)
        for name, tensor in state.items()
    }


if __name__ == "__main__":
    sys.exit(serve(export))
