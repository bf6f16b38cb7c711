"""`python -m pipeline.train.tools.evaluate`: measure exported weights again.

stdin: `{"config": path, "weights": path, "splits": ["val", "test"]}`. stdout: `{"metrics":
{split: {metric: value}}, "same": whether both splits read the same data}`. MMEngine's own Runner
tests; nothing of a trial's run is used but the two files.
"""

import contextlib
import io
import sys
import tempfile
from typing import Any, Dict

from pipeline.train.compat import prepare_mmaction, read_plain_pickles
from pipeline.train.tools.tool import ToolError, serve


def evaluate(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    for name in ("config", "weights"):
        if not isinstance(question.get(name), str):
            raise ToolError(f'The question has no "{name}".')
    prepare_mmaction()
    read_plain_pickles()
    from mmengine.config import Config

    found = {}
    config = Config.fromfile(question["config"])
    for split in question.get("splits") or ["val"]:
        if config.get(f"{split}_dataloader") is not None:
            found[split] = measure(config.copy(), question["weights"], split)
    same = config.get("val_dataloader") == config.get("test_dataloader")
    return {"metrics": found, "same": same}


def measure(config: Any, weights: str, split: str) -> Dict[str, float]:
    """Test one split with MMEngine's Runner; return its metrics."""
    from mmengine.runner import Runner

    from pipeline.train.runner_config import leave_to_job

    config.test_dataloader = config[f"{split}_dataloader"]
    config.test_evaluator = config[f"{split}_evaluator"]
    config.test_cfg = config.get("test_cfg") or {}
    with tempfile.TemporaryDirectory() as folder:
        leave_to_job(config, folder)
        # As in `score_reader`; the weights are those that a hook would put in place (EMA).
        config.load_from, config.custom_hooks = weights, []
        with contextlib.redirect_stdout(io.StringIO()):  # stdout carries the answer alone
            metrics = Runner.from_cfg(config).test()
    return {name: float(value) for name, value in metrics.items()}


if __name__ == "__main__":
    sys.exit(serve(evaluate))
