"""Writes run directories as a finished sweep leaves them: curves, predictions, verdicts, seeds."""

import array
import json
import random
from pathlib import Path
from typing import Any

from pipeline.shared.files import write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec

CLIPS, CLASSES = 400, 8
CODE = {
    "project": {"commit": "1a2b3c4d" * 5, "branch": "main", "dirty": False, "diff": None},
    "code_root": None,
}


def record_trial(
    folder: Path,
    variant: str,
    number: int,
    top1: list[float],
    *,
    state: str | None = "COMPLETE",
    clips: int | None = CLIPS,
    **spec: Any,
) -> Path:
    """Write one trial.

    Args:
        folder: `runs/SWEEP`.
        top1: accuracies of epochs 1, 2, ..., rounded to whole clips.
        clips: validation clips, with predictions of the best epoch; None keeps none.
        spec: other fields of the specification.
    """
    run = RunDir(folder / variant / str(number))
    run.root.mkdir(parents=True)
    given = {"epochs": len(top1), "metric": "acc/top1", "nproc": 2, "device": "cpu", "code": CODE}
    given |= {"goal": 0.9, "seed": number, "versions": {"torch": "2.13.0"}, **spec}
    made = TrialSpec(sweep=folder.name, variant=variant, number=number, **given)
    write_json(run.spec, made.to_json(), durable=False)
    start = {"attempt": 1, "code": made.code, "versions": made.versions, "gpu": None}
    run.starts.write_text(json.dumps(start) + "\n")
    values = [round(value * clips) / clips if clips else value for value in top1]
    lines = [_measurement(epoch, value).to_line() for epoch, value in enumerate(values, 1)]
    run.measurements.write_text("".join(lines))
    if clips and values:
        write_json(run.facts, {"val_clips": clips}, durable=False)
        _predict(run, max(values), values.index(max(values)) + 1, clips)
    if state is not None:
        outcome = {"state": state, "cause": None, "reason": f"All {len(top1)} epochs are done."}
        write_json(run.outcome, {**outcome, "epochs": len(top1)}, durable=False)
    return run.root


def _measurement(epoch: int, top1: float) -> Measurement:
    return Measurement(
        epoch=epoch,
        top1=top1,
        lr=0.01 / epoch,
        rgb_top1=top1 - 0.02,
        pose_top1=top1 - 0.1,
        loss=1 / epoch,
        extra={"loss_align": 0.5 / epoch},
        seconds=90.0,
        time=f"2026-01-01T00:{epoch:02d}:00+00:00",
    )


def _predict(run: RunDir, top1: float, epoch: int, clips: int) -> None:
    """Keep predictions that give `top1`; the harder a clip, the fewer trials get it right."""
    labels = array.array("H", [clip % CLASSES for clip in range(clips)])
    hardest = random.Random(1).sample(range(clips), clips)
    chance = random.Random(str(run.root.name) + run.root.parent.name)
    right = set(
        sorted(hardest, key=lambda c: hardest[c] + chance.gauss(0, 25))[: round(top1 * clips)]
    )
    predicted = array.array("H", labels)
    for clip in set(range(clips)) - right:
        predicted[clip] = (labels[clip] + 1 + clip % 2) % CLASSES
    run.predictions.mkdir()
    kept = Predictions(epoch, "acc/top1", top1, "ids", predicted, labels)
    run.predictions_of(epoch).write_bytes(kept.to_bytes())


def record_sweep(folder: Path) -> Path:
    """Write a sweep of three variants whose two best were repeated on two new seeds each."""
    curve = [0.5, 0.7, 0.8]
    stop = {"epoch": 2, "top1": 0.6, "verdict": "prune", "rule": "epoch 2 floor", "threshold": 0.7}
    record_trial(folder, "baseline", 0, [*curve, 0.86, 0.85], plan="A", values={})
    record_trial(folder, "lr_high", 0, [*curve, 0.9, 0.93], values={"lr": 0.01})
    low = record_trial(folder, "lr_low", 0, [0.4, 0.6], state="PRUNED", values={"lr": 1e-4})
    stop |= {"std_error": 0.02, "reason": "under the floor", "next": "lr_high"}
    (low / "verdicts.jsonl").write_text(json.dumps(stop) + "\n")
    for name, tops in (("baseline", (0.85, 0.87)), ("lr_high", (0.91, 0.92))):
        for number, top in enumerate(tops, 1):
            record_trial(folder, name, number, [0.5, 0.7, top], confirms=f"{name}/0")
    return folder
