"""The measured fine-tunings of the shared data as training curves (its README describes them)."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.diagnose.curve import Curve, LogRun, join

CLASSES = {"utd": 8, "digits": 10, "vowels": 9}


def measured_runs(folder: Path) -> Iterator[tuple[str, float, Curve]]:
    """Yield each run's name, its accuracy before training, and its curve; the rate is a cosine."""
    for file in sorted(folder.glob("*.npz")):
        data = np.load(file)
        counts, losses, clips = data["raw"], data["loss"], int(data["count"])
        for seed, k in np.ndindex(*counts.shape[:2]):
            right, loss = counts[seed, k].tolist(), losses[seed, k].tolist()
            run = _run(right, loss, float(data["hp_lr"][k]), clips)
            run.facts.num_classes = CLASSES[file.name.partition("_")[0]]
            name = f"{file.stem} {seed} {k}"
            yield name, int(data["before"]) / clips, join([run], name, "measured")


def _run(right: list[int], loss: list[float], lr: float, clips: int) -> LogRun:
    run, epochs = LogRun(), len(right)
    for epoch, (count, value) in enumerate(zip(right, loss, strict=True), 1):
        rate = lr / 1000 + lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        run.train(epoch, rate, value if count >= 0 else math.nan, epoch)
        if count >= 0:
            run.validate(epoch, {"acc/top1": count / clips}, epoch)
    run.facts.max_epochs, run.facts.load_from, run.facts.val_clips = epochs, "x.pth", clips
    return run
