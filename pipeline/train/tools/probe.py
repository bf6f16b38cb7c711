"""`python -m pipeline.train.tools.probe`: what resolved configs would do, without training.

stdin: `{"configs": {name: text}, "rehearse": {name: text on this machine}, "ranks": processes that
train together, "data": `data` of a trial's specification, for a prepared store, "speed": what
`job.speed` has on, "measure": {name: text on this machine} and "memory": the request of a
`MemoryProbe`, for what they take of the device}`. stdout:
`{"results": {name: {"lr": [one per epoch] or null, "near": whether it depends on the length of an
epoch, "lr_error": sentence or null, "follows": [[scheduler, metric]], "left_out": [hooks],
"problems": [sentences], "notes": [sentences], "classes", "joints"}}, "rehearsals": {name:
{"problems": [sentences], "metrics": [names] or null, "loads": {loader: numbers}, "labels":
[sentences], "notes": [sentences], "settled"}}, "memory": {name: what it takes}, "sources"}`.
Each model is built once, on the CPU and without weights; one child answers for all, since most of
the cost is importing torch.
"""

import os
import sys
import tempfile
from typing import Any, Dict, List, Optional

from pipeline.train.config_parts import (
    hooks_by_inheritance,
    part_problems,
    unregistered_data,
)
from pipeline.train.memory_probe import MemoryProbe
from pipeline.train.outcome import asks_for_gpu
from pipeline.train.rehearsal import Rehearsal, gpu_note
from pipeline.train.speed import lacking
from pipeline.train.tools.inspect_checkpoint import build, describe_config
from pipeline.train.tools.schedule import StepError, schedule
from pipeline.train.tools.tool import ToolError, serve


def probe(question: Dict[str, Any]) -> Dict[str, Any]:
    """Answer one question; its form is in the module's docstring."""
    configs, placed = question["configs"], question.get("rehearse") or {}
    measured, results, rehearsals, memory = question.get("measure") or {}, {}, {}, {}
    meter = MemoryProbe(question["memory"], question.get("speed") or {}) if measured else None
    ranks = int(question.get("ranks") or 1)
    rehearsal, data = Rehearsal(ranks), question.get("data")
    lacks = lacking(question.get("speed") or {})
    for name in dict.fromkeys([*configs, *placed, *measured]):
        built: Dict[str, Any] = {}
        if name in configs:
            course = _course(configs[name], ranks)
            results[name] = {**course, **_model(name, configs[name], built)}
            if any(one.startswith("param_scheduler") for one in results[name]["problems"]):
                results[name]["lr_error"] = None  # the same in other words
            results[name]["problems"] += [*course["problems"], *lacks]
            if name not in placed and configs[name] in built:
                results[name]["problems"] += unregistered_data(built[configs[name]][0])
        if name in placed or name in measured:
            text = placed.get(name) or measured[name]
            rehearsed = _rehearse(text, built, rehearsal, data)
            if name in placed:
                rehearsals[name] = rehearsed
            if meter is not None and name in measured:
                cfg, model = built["rehearsed"]
                memory[name] = meter.answer(cfg, model, rehearsal.loaders)
    answer = {"results": results, "rehearsals": rehearsals, "memory": memory}
    return {**answer, "read": rehearsal.read}


def _course(text: str, ranks: int) -> Dict[str, Any]:
    nothing: Dict[str, Any] = {"lr": None, "near": False, "lr_error": None, "follows": []}
    try:
        found = schedule({"config": text, "nproc": ranks})
    except StepError as error:
        return {**nothing, "problems": [str(error)]}
    except ToolError as error:
        return {**nothing, "lr_error": str(error), "problems": []}
    waiting = [list(pair) for pair in zip(found["metric_driven"], found["monitors"])]
    known = {"lr": found["lr"], "near": found["near"], "follows": waiting}
    return {**nothing, **known, "problems": []}


def _model(name: str, text: str, built: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the model is built for; what was built stays in `built`, by its text."""
    nothing: Dict[str, Any] = {"classes": None, "joints": None, "left_out": []}
    try:
        cfg, model = _build(text)
    except ToolError as error:
        sentence = str(error).replace("CONFIG", name)
        if asks_for_gpu(sentence):
            note = gpu_note("its model asks", error)
            return {**nothing, "problems": [], "notes": [note]}
        return {**nothing, "problems": [sentence], "notes": []}
    built[text] = cfg, model
    found = describe_config(name, cfg, model)
    problems: List[str] = [*found["problems"], *part_problems(cfg, model)]
    return {
        "problems": problems,
        "notes": [],
        "classes": found["classes"],
        "joints": found["joints"],
        "left_out": hooks_by_inheritance(cfg),
    }


def _rehearse(
    text: str, built: Dict[str, Any], rehearsal: Rehearsal, data: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    prepared = data is not None and data.get("store") == "prepared"
    try:
        # A store may have the model's preprocessor draw the joints' heatmaps.
        cfg, model = _build(text, data) if prepared else built.get(text) or _build(text)
        built["rehearsed"] = cfg, model
    except ToolError as error:  # without a store the probe's own answer says why
        problems = [str(error)] if prepared and not asks_for_gpu(str(error)) else []
        rehearsal.loaders, built["rehearsed"] = {}, ({}, None)
        nothing: Dict[str, Any] = {"metrics": None, "loads": {}, "notes": [], "settled": False}
        return {"problems": problems, **nothing}
    return rehearsal.run(cfg, model)


def _build(text: str, data: Optional[Dict[str, Any]] = None) -> Any:
    """Build a config's model; raise ToolError with CONFIG in place of the file."""

    def read_packs(cfg: Any) -> None:
        if data is None:
            return  # the import alone brings MMAction2's whole sample chain and scipy
        from pipeline.train.transforms import use_spec

        use_spec(cfg, data)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.py")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            return build(path, read_packs)
        except ToolError as error:
            sentence = str(error).replace(path + ": ", "").replace(path, "CONFIG")
            raise ToolError(sentence) from error


if __name__ == "__main__":
    # A training step that was given up may still run in its thread.
    code = serve(probe, kept=True)
    sys.stderr.flush()
    os._exit(code)
