"""Start a training from the weights of an existing checkpoint file."""

import logging
from typing import Any, Dict, List

from pipeline.shared.counted import counted
from pipeline.shared.files import shell_word
from pipeline.train import init_prototypes
from pipeline.train.checkpoint_file import CheckpointError, read_checkpoint, state_dict_of
from pipeline.train.weights import KINDS, classifier_mismatch, compare, rename

_LOG = logging.getLogger(__name__)


class WarmStartError(Exception):
    """A sentence for the user: why the starting weights cannot be used."""


def load_warm_start(runner: Any, start: Dict[str, Any]) -> Dict[str, Any]:
    """Load `start["checkpoint"]` into the runner's model, on every rank alike.

    Call it on all ranks, before training or validating. Afterwards the runner no longer
    initialises weights by itself: mmengine's `train()` would overwrite what was loaded.
    Prototypes that the file lacks become class means of training clips.

    Returns:
        The report of `weights.compare`, and: checkpoint, prototypes (how each bank began),
        notes (sentences worth logging).

    Raises:
        WarmStartError: the file is unusable, or too little of it fits the model.
    """
    path = str(start["checkpoint"])
    try:
        content = read_checkpoint(path)
        tensors = state_dict_of(content, path)
    except CheckpointError as error:
        raise WarmStartError(str(error)) from error
    model = getattr(runner.model, "module", runner.model)
    report: Dict[str, Any] = {"checkpoint": path, **compare(tensors, model.state_dict())}
    _refuse_misfit(report, start)
    if not getattr(model, "is_init", False):
        runner._init_model_weights()
    renamed = rename(tensors, model.state_dict())
    model.load_state_dict({name: renamed[name] for name in report["matched"]}, strict=False)
    runner._init_model_weights = _already_initialised
    report["prototypes"] = init_prototypes.init_prototypes(
        runner, model, path, set(report["matched"])
    )
    # Hooks copied the model when the run began (EMAHook); they take the loaded weights from here.
    runner.call_hook("after_load_checkpoint", checkpoint={**content, "state_dict": _copy(model)})
    report["notes"] = notes(report)
    for note in report["notes"]:
        _LOG.info(note)
    return report


def _copy(model: Any) -> Dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def notes(report: Dict[str, Any]) -> List[str]:
    """Put a report into sentences."""
    sentences = [
        f"{report['checkpoint']}: {KINDS[report['kind']]}; "
        f"{report['matched_share']:.1%} of the weights such a file should have were matched."
    ]
    for key, words in (
        ("missing", "not in the file"),
        ("fresh", "new in this model"),
        ("unexpected", "in the file but not in the model"),
    ):
        if report[key]:
            names = ", ".join(report[key][:3]) + (", ..." if len(report[key]) > 3 else "")
            sentences.append(
                f"{counted(len(report[key]), 'tensor is', 'tensors are')} {words}: {names}."
            )
    for entry in report["mismatched"]:
        sentences.append(f"{entry['name']} is {entry['file']} in the file, {entry['model']} here.")
    for bank, origin in report.get("prototypes", {}).items():
        sentences.append(f"{bank}: {origin}.")
    return sentences


def _refuse_misfit(report: Dict[str, Any], start: Dict[str, Any]) -> None:
    path, least = report["checkpoint"], start.get("min_matched", 0.95)
    if report["matched_share"] < least:
        raise WarmStartError(
            f"Only {report['matched_share']:.1%} of the weights that {path} should have "
            f"({KINDS[report['kind']]}) fit the model; warm_start.min_matched is {least:.0%}. "
            f"See why: pcan checkpoint inspect {shell_word(path)}"
        )
    mismatch = classifier_mismatch(report)
    if mismatch and start.get("expect") is not None:
        raise WarmStartError(
            f"{path} cannot reach warm_start.expect {start['expect']}: {mismatch}. Correct "
            "model.cls_head.num_classes, or remove expect to train new classifiers."
        )


def _already_initialised() -> None:
    """Stand in for the runner's own initialisation after a warm start."""
