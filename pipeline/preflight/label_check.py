"""Before anything is trained: do the starting weights fit the labels, or another reading?"""

import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, NotReady
from pipeline.job.torch_tools import run_tool
from pipeline.preflight.finding import CheckContext, CheckFinding, note, warning
from pipeline.preflight.machine_overrides import data_root
from pipeline.preflight.model_probe import DEFAULT_STORE, DataPlacement, placed_texts
from pipeline.shared.counted import counted
from pipeline.shared.predictions import Predictions

#: Clips that the starting weights are tried on, and how long that may take a checkpoint.
CLIPS, SECONDS = 240, 30.0


def check_label_fit(context: CheckContext) -> Iterator[CheckFinding]:
    """Try each starting checkpoint on some validation clips and audit its labels."""
    if context.resolution is None:
        return
    sweep, project = context.sweep, context.project
    assert sweep is not None
    if sweep.data.store != DEFAULT_STORE:
        return
    placement = DataPlacement(root=data_root(sweep, project, context.sets), sets=context.sets)
    texts = placed_texts(sweep, project, context.resolution.configs, placement)
    tried: set[Path] = set()
    for name, (text, _files) in texts.items():
        start = sweep.variants[name].warm_start
        path = start.file(project.root) if start is not None else None
        if path is None or path in tried or not path.is_file():
            continue
        tried.add(path)
        request = {
            "config": text,
            "checkpoint": str(path),
            "metric": sweep.metric_of(name),
            "clips": CLIPS,
            "seconds": SECONDS,
        }
        try:
            answer = run_tool("predict_clips", request, sweep.job, project.root)
        except (InputError, NotReady) as problem:
            yield note("label_mismatch", f"{path.name}: its labels are not audited; {problem}")
            continue
        yield from _findings(path.name, answer)


def _findings(name: str, answer: dict[str, Any]) -> Iterator[CheckFinding]:
    from pipeline.plan.label_audit import audit

    predicted, labels = (array.array("H", answer[key]) for key in ("predicted", "labels"))
    columns = {key: array.array("H", one) for key, one in answer["columns"].items()}
    kept = Predictions(0, "", 0.0, "", predicted, labels, answer["classes"], columns)
    for one in audit(kept):
        yield warning(
            "label_mismatch",
            f"{name}, tried on {counted(len(labels), 'validation clip')}: {one.sentence}. Were "
            'these weights trained by a head that changes labels? See docs/model.md, "Labels that '
            'the loss changes".',
        )
