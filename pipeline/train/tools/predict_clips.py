"""`python -m pipeline.train.tools.predict_clips`: what starting weights say of some clips.

stdin: `{"config": text, "checkpoint": path, "metric": the objective, "clips": the most to read,
"seconds": how long clips are read at most}`. stdout: `{"predicted": [class a clip], "labels",
"columns": {name: [class a clip]}, "classes"}`, the same columns as in a run's `predictions/`. The
clips lie evenly over the validation set; all of it is done on the CPU.
"""

import os
import sys
import tempfile
import time
from typing import Any, Dict, List, Tuple

from pipeline.train.tools.inspect_checkpoint import build
from pipeline.train.tools.tool import ToolError, serve


def predict(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.py")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(question["config"])
        cfg, model = build(path)
    load(model, question["checkpoint"])
    try:
        rows = list(_rows(cfg, model, question))
    except Exception as error:  # a config's own data and model: they fail in any way
        raise ToolError(f"the weights could not be tried on clips: {error}") from error
    from pipeline.train.keep_predictions import as_columns

    return {
        "predicted": [predicted for (predicted, _), _, _ in rows],
        "labels": [label for (_, label), _, _ in rows],
        "columns": {n: list(c) for n, c in as_columns([more for _, more, _ in rows]).items()},
        "classes": rows[0][2] if rows else None,
    }


def load(model: Any, checkpoint: str) -> None:
    """Load what fits of a checkpoint, as a warm start does.

    A file without prototypes was made without their part of the scores: it is left out then.
    """
    from pipeline.train.checkpoint_file import CheckpointError, read_checkpoint, state_dict_of
    from pipeline.train.weights import compare, rename

    try:
        tensors = state_dict_of(read_checkpoint(checkpoint), checkpoint)
    except CheckpointError as error:
        raise ToolError(str(error)) from error
    state = model.state_dict()
    matched = compare(tensors, state)["matched"]
    renamed = rename(tensors, state)
    model.load_state_dict({name: renamed[name] for name in matched}, strict=False)
    gamma = getattr(getattr(model, "cls_head", None), "gamma", None)
    if isinstance(gamma, dict):
        for stream in gamma:
            known = f"cls_head.prototypes_{stream}.prototypes" in matched
            gamma[stream] = gamma[stream] if known else 0.0


def _rows(
    cfg: Any, model: Any, question: Dict[str, Any]
) -> "List[Tuple[Tuple[int, int], Dict[str, int], int]]":
    import torch
    from mmengine.registry import DATASETS, FUNCTIONS

    from pipeline.train.keep_predictions import further_columns, read_clips, scores_of, stream_of

    loader, stream = cfg.val_dataloader, stream_of(question["metric"])
    wanted = dict(loader.get("collate_fn") or {"type": "pseudo_collate"})
    collate = FUNCTIONS.get(wanted.pop("type"))
    dataset = DATASETS.build(loader["dataset"])
    clips = min(len(dataset), question["clips"])
    end, rows = time.monotonic() + question["seconds"], []
    model.eval()
    for number in _spread(clips):
        if time.monotonic() > end:
            break
        batch = collate([dataset[number * len(dataset) // clips]], **wanted)
        with torch.no_grad():
            (sample,) = model.val_step(batch)
        (clip,) = read_clips([sample], stream)
        named = clip.predicted, clip.label
        rows.append((named, further_columns(sample), len(scores_of(sample, stream))))
    return rows


def _spread(count: int) -> List[int]:
    """Return the numbers below `count` in an order whose every beginning lies over all of them."""
    step = next((n for n in range(int(0.618 * count) or 1, count) if _coprime(n, count)), 1)
    return [i * step % count for i in range(count)]


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


if __name__ == "__main__":
    sys.exit(serve(predict))
