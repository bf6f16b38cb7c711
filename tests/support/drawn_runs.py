"""Training curves with a known answer, drawn by formula, and the logs that programs make of them.

Validation values are shares of a validation set: the drawn accuracy plus the chance of `clips`
clips, rounded to whole clips, from a fixed seed.
"""

import dataclasses
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

Course = Callable[[int], float]
STAMP = "2026/01/02 03:04:05 - mmengine - INFO - "
OLD_STAMP = "2026-01-02 03:04:05,678 - pyskl - INFO - "
STOPPED = "the monitored metric did not improve in the last {} records. best score: 0.500. "


def cosine(peak: float, epochs: int, low: float = 1e-5) -> Course:
    """A cosine from `peak` to `low`, then steady."""

    def lr(epoch: int) -> float:
        done = min(epoch - 1, epochs) / epochs
        return low + (peak - low) * (1 + math.cos(math.pi * done)) / 2

    return lr


def warm_up(first: float, peak: float, rising: int, then: Course | None = None) -> Course:
    """A rate that rises in a line for `rising` epochs, then follows `then`."""

    def lr(epoch: int) -> float:
        if epoch <= rising:
            return first + (peak - first) * (epoch - 1) / rising
        return then(epoch - rising) if then is not None else peak

    return lr


def restarts(peak: float, cycle: int) -> Course:
    """Cosines that begin again every `cycle` epochs."""
    return lambda epoch: cosine(peak, cycle)((epoch - 1) % cycle + 1)


def steps(peak: float, *milestones: int) -> Course:
    """A tenth of the rate from each milestone on."""
    return lambda epoch: peak * 0.1 ** sum(epoch > m for m in milestones)


def learns(top: float, speed: float = 0.2, bottom: float = 0.1) -> Course:
    """An accuracy that approaches `top`."""
    return lambda epoch: top - (top - bottom) * math.exp(-speed * epoch)


def line(first: float, last: float, epochs: int) -> Course:
    """A straight course from the first epoch to the last."""
    return lambda epoch: first + (last - first) * min(1, (epoch - 1) / max(1, epochs - 1))


def then(first: Course, epochs: int, second: Course) -> Course:
    """One course for some epochs, then another, which counts from 1 again."""
    return lambda epoch: first(epoch) if epoch <= epochs else second(epoch - epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """One run.

    Args:
        found: the ids that `pcan diagnose` has to find, no others.
        may: ids that may stand beside them.
        planned: epochs in the configuration; None: those that were trained.
        every: epochs between validations.
        stopped: how many validations early stopping waited, if it ended the run.
    """

    name: str
    found: frozenset[str]
    may: frozenset[str] = frozenset()
    epochs: int
    top1: Course
    loss: Course | None = None
    lr: Course | None = None
    train: Course | None = None
    classes: int = 60
    clips: int = 4000
    planned: int | None = None
    every: int = 1
    warm: bool = False
    stopped: int | None = None
    seed: int = 0

    def values(self) -> dict[int, float]:
        """Return the validated accuracy by epoch; NaN stays NaN."""
        chance = random.Random(self.seed)
        return {
            epoch: _read(self.top1(epoch), self.clips, chance)
            for epoch in range(1, self.epochs + 1)
            if epoch % self.every == 0
        }

    def config(self) -> str:
        """Return the configuration as a program prints it."""
        weights = "'epoch_26.pth'" if self.warm else "None"
        return (
            f"load_from = {weights}\n"
            f"model = dict(cls_head=dict(num_classes={self.classes}, type='I3DHead'))\n"
            "optim_wrapper = dict(optimizer=dict(lr=0.01, type='SGD'))\n"
            f"train_cfg = dict(\n    max_epochs={self.planned or self.epochs}, "
            f"type='EpochBasedTrainLoop', val_interval={self.every})\n"
            "val_dataloader = dict(batch_size=16)\n"
            f"total_epochs = {self.planned or self.epochs}\n"
        )

    def training(self, epoch: int) -> dict[str, float]:
        """Return what an epoch's last training line shows."""
        loss = self.loss or (lambda e: 0.3 + 3.5 * math.exp(-0.1 * e))
        shown = {"lr": (self.lr or cosine(0.01, self.epochs))(epoch), "loss": loss(epoch)}
        return shown | ({"top1_acc": self.train(epoch)} if self.train is not None else {})

    def mmengine(self, folder: Path) -> tuple[Path, Path]:
        """Write a work dir of MMEngine; return its text and its JSON form."""
        run = folder / self.name.replace(" ", "_") / "20260102_030405"
        (run / "vis_data").mkdir(parents=True)
        text, rows = [f"{STAMP}Config:\n{self.config()}"], []
        values = self.values()
        for epoch in range(1, self.epochs + 1):
            shown = self.training(epoch)
            fields = "  ".join(f"{k}: {_number(k, v)}" for k, v in shown.items())
            text.append(f"{STAMP}Epoch(train)  [{epoch}][100/100]  {fields}  time: 0.4303")
            rows.append(json.dumps({**shown, "epoch": epoch, "iter": 100 * epoch, "step": 100}))
            if epoch in values:
                text.append(
                    f"{STAMP}Epoch(val) [{epoch}][{_batches(self.clips)}/{_batches(self.clips)}]  "
                    f"acc/top1: {values[epoch]:.4f}  data_time: 0.0471"
                )
                rows.append(json.dumps({"acc/top1": values[epoch], "step": epoch}))
        if self.stopped:
            text.append(STAMP + STOPPED.format(self.stopped))
        log, exact = run / f"{run.name}.log", run / "vis_data" / "scalars.json"
        log.write_text("\n".join(text) + "\n")
        exact.write_text("\n".join(rows) + "\n")
        return log, exact

    def mmcv(self, folder: Path) -> tuple[Path, Path]:
        """Write the two logs of MMCV 1.x; return the text and the JSON form."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{self.name.replace(' ', '_')}.log"
        text = [f"{OLD_STAMP}Config:\n{self.config()}"]
        rows = [json.dumps({"env_info": "", "config": self.config(), "exp_name": "x.py"})]
        values = self.values()
        for epoch in range(1, self.epochs + 1):
            shown = self.training(epoch)
            fields = ", ".join(f"{k}: {_number(k, v)}" for k, v in shown.items())
            text.append(f"{OLD_STAMP}Epoch [{epoch}][100/100]\t{fields}, time: 1.4380")
            rows.append(json.dumps({"mode": "train", "epoch": epoch, "iter": 100, **shown}))
            if epoch in values:
                batches = _batches(self.clips)
                text.append(
                    f"{OLD_STAMP}Epoch(val) [{epoch}][{batches}]\ttop1_acc: {values[epoch]:.4f}, "
                    "time: 0.1000"
                )
                rows.append(
                    json.dumps(
                        {"mode": "val", "epoch": epoch, "iter": batches, "top1_acc": values[epoch]}
                    )
                )
        if self.stopped:
            text.append(OLD_STAMP + STOPPED.format(self.stopped))
        log.write_text("\n".join(text) + "\n")
        exact = log.with_name(f"{log.name}.json")
        exact.write_text("\n".join(rows) + "\n")
        return log, exact


def _read(accuracy: float, clips: int, chance: random.Random) -> float:
    if not math.isfinite(accuracy):
        return math.nan
    spread = math.sqrt(accuracy * (1 - accuracy) / clips) if 0 < accuracy < 1 else 0.0
    # Between two epochs most clips are taken alike: a third of a fresh sample's scatter.
    drawn = round((accuracy + chance.gauss(0, 1) * spread / 3) * clips) / clips
    return min(1.0, max(0.0, drawn))


def _batches(clips: int) -> int:
    return math.ceil(clips / 16)


def _number(name: str, value: float) -> str:
    return f"{value:.4e}" if name == "lr" else f"{value:.4f}"
