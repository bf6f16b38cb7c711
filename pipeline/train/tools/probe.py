"""`python -m pipeline.train.tools.probe`: what resolved configs would do, without training.

stdin: `{"configs": {name: text}, "rehearse": {name: text on this machine}}`. stdout: `{"results":
{name: {"lr": [one per epoch] or null, "lr_error": sentence or null, "follows": [[scheduler,
metric]], "left_out": [hooks], "problems": [sentences], "classes", "joints"}}, "rehearsals": {name:
{"problems": [sentences], "metrics": [names] or null, "labels": [sentences]}}}`. Each model is
built once, on the CPU and without weights; one child answers for all, since most of the cost is
importing torch.
"""

import os
import sys
import tempfile
from typing import Any, Dict, List, Optional

from pipeline.train.label_probe import LabelProbe
from pipeline.train.rehearsal import Rehearsal, hooks_by_inheritance, part_problems
from pipeline.train.tools.inspect_checkpoint import build, describe_config
from pipeline.train.tools.schedule import schedule
from pipeline.train.tools.tool import ToolError, serve


def probe(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    configs, placed = question["configs"], question.get("rehearse") or {}
    results, rehearsals, rehearsal = {}, {}, Rehearsal()
    labels = LabelProbe()
    for name in dict.fromkeys([*configs, *placed]):
        built: Dict[str, Any] = {}
        if name in configs:
            results[name] = {**_course(configs[name]), **_model(name, configs[name], built)}
        if name in placed:
            rehearsals[name] = _rehearse(placed[name], built, rehearsal, labels)
    return {"results": results, "rehearsals": rehearsals}


def _course(text: str) -> Dict[str, Any]:
    try:
        found = schedule({"config": text})
    except ToolError as error:
        return {"lr": None, "lr_error": str(error), "follows": []}
    waiting = zip(found["metric_driven"], found["monitors"])
    return {"lr": found["lr"], "lr_error": None, "follows": [list(pair) for pair in waiting]}


def _model(name: str, text: str, built: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the model is built for; what was built stays in `built`, by its text."""
    nothing = {"classes": None, "joints": None, "left_out": []}
    try:
        cfg, model = _build(text)
    except ToolError as error:
        return {**nothing, "problems": [str(error).replace("CONFIG", name)]}
    built[text] = cfg, model
    found = describe_config(name, cfg, model)
    problems: List[str] = [*found["problems"], *part_problems(cfg, model)]
    return {
        "problems": problems,
        "classes": found["classes"],
        "joints": found["joints"],
        "left_out": hooks_by_inheritance(cfg),
    }


def _rehearse(
    text: str, built: Dict[str, Any], rehearsal: Rehearsal, labels: LabelProbe
) -> Dict[str, Any]:
    metrics: Optional[List[str]] = None
    try:
        cfg, model = built.get(text) or _build(text)
    except ToolError:  # the probe's own answer says why
        return {"problems": [], "metrics": None, "labels": []}
    problems, metrics = rehearsal.run(cfg, model)
    remarks = [] if problems else labels.remarks(cfg, model)
    return {"problems": problems, "metrics": metrics, "labels": remarks}


def _build(text: str) -> Any:
    """Build a config's model; raise ToolError with CONFIG in place of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.py")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            return build(path)
        except ToolError as error:
            sentence = str(error).replace(path + ": ", "").replace(path, "CONFIG")
            raise ToolError(sentence) from error


if __name__ == "__main__":
    sys.exit(serve(probe))
