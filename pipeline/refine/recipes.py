"""How a refined result is made: which weights, which views of a clip, how scores are joined."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of a trial.

    Args:
        folder: its run directory.
        epoch: of the checkpoint.
        later: not the checkpoint's weights, but the mean over the later epochs kept in it.
    """

    trial: str
    folder: Path
    epoch: int
    later: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"trial": self.trial, "epoch": self.epoch, "later": self.later}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipReading:
    """One reading of all clips: the mean of these weights, in these views."""

    weights: tuple[Weights, ...]
    clips: int = 1
    flip: bool = False

    @property
    def passes(self) -> int:
        """Forward passes a clip."""
        return self.clips * (2 if self.flip else 1)

    @property
    def plain(self) -> bool:
        """Whether it is what a validation of a trial reads."""
        (first, *others) = self.weights
        return not others and not first.later and self.passes == 1

    def to_json(self) -> dict[str, Any]:
        weights = [one.to_json() for one in self.weights]
        return {"weights": weights, "clips": self.clips, "flip": self.flip}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """How RGB and pose are joined.

    Args:
        share: of RGB, 0 to 1.
        log: logarithms of the scores are weighed, not the scores.
        flat: the range of shares around it that read the same on the clips it was chosen on.
    """

    share: float
    log: bool = False
    flat: tuple[float, float] | None = None

    @property
    def shown(self) -> str:
        """The ratio in words, such as "RGB:pose 0.60:0.40 of log-scores"."""
        kind = "log-scores" if self.log else "scores"
        return f"RGB:pose {self.share:.2f}:{1 - self.share:.2f} of {kind}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefinedRecipe:
    """A whole refined result: readings whose scores are averaged, then joined by a ratio."""

    readings: tuple[ClipReading, ...]
    ratio: Ratio

    @property
    def passes(self) -> int:
        return sum(one.passes for one in self.readings)

    @property
    def one_model(self) -> bool:
        return len(self.readings) == 1

    def to_json(self) -> dict[str, Any]:
        ratio = {"rgb": self.ratio.share, "log": self.ratio.log}
        return {"readings": [one.to_json() for one in self.readings], "ratio": ratio}


def recipe_of(record: Mapping[str, Any], folders: Mapping[str, Path]) -> RefinedRecipe:
    """Return the recipe that `to_json` wrote.

    Args:
        folders: run directories by trial.
    """
    readings = tuple(
        ClipReading(
            weights=tuple(
                Weights(folder=folders[one["trial"]], **one) for one in reading["weights"]
            ),
            clips=reading["clips"],
            flip=reading["flip"],
        )
        for reading in record["readings"]
    )
    ratio = Ratio(share=record["ratio"]["rgb"], log=record["ratio"]["log"])
    return RefinedRecipe(readings=readings, ratio=ratio)
