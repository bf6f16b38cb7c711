"""The scores that a validation kept, as arrays; how branches are fused, by any ratio.

Shapes: C clips, K classes. NumPy is imported where it is used: `status` does not need it.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.shared.clip_scores import ClipScores
from pipeline.shared.fusion import fuse, guesses
from pipeline.shared.rundir import RunDir

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Table = NDArray[np.float64]

_FUSED = re.compile(r"RGBPose_(\d+):(\d+)")
#: Shares of RGB at which a ratio is read; 1:2, 1:1 and 2:1 are among them.
SHARES = tuple(round(i / 30, 4) for i in range(31))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchScores:
    """The scores of one reading.

    Args:
        labels: true classes, (C,).
        branches: scores by branch, (C, K) each.
        people: who is seen in each clip, "" where that is not known.
    """

    epoch: int
    metric: str
    top1: float | None
    ids: str
    labels: "NDArray[np.int64]"
    names: Sequence[str]
    people: Sequence[str]
    branches: "Mapping[str, Table]"

    @property
    def clips(self) -> int:
        return len(self.names)

    @property
    def two(self) -> bool:
        """Whether there are an RGB and a pose branch to be weighed."""
        return set(self.branches) == {"rgb", "pose"}

    @property
    def own_share(self) -> float:
        """The share of RGB in the objective: 0.5 for "RGBPose_1:1"; 1 without a second branch."""
        fused = _FUSED.search(self.metric)
        if fused is None:
            return 0.0 if "pose" in self.metric.rsplit("/", 1)[-1] else 1.0
        rgb, pose = map(float, fused.groups())
        return rgb / (rgb + pose)


def read_scores(run: RunDir, epoch: int) -> BranchScores | None:
    """Return the scores of an epoch, None where none were kept or the file is damaged."""
    try:
        return unpack(run.scores_of(epoch).read_bytes())
    except (OSError, ValueError):
        return None


def unpack(data: bytes) -> BranchScores:
    """Return the arrays of a file of scores; raise ValueError if it is not one."""
    import numpy as np

    kept = ClipScores.from_bytes(data)
    shape = len(kept.labels), kept.classes
    tables = {
        name: np.frombuffer(block, dtype="<f2").reshape(shape).astype(np.float64)
        for name, block in kept.branches.items()
    }
    return BranchScores(
        epoch=kept.epoch,
        metric=kept.metric,
        top1=kept.top1,
        ids=kept.ids,
        labels=np.asarray(kept.labels, dtype=np.int64),
        names=kept.names,
        people=kept.people,
        branches=tables,
    )


def mean_scores(readings: Sequence[BranchScores]) -> "dict[str, Table]":
    """Return the mean of several readings' scores by branch."""
    import numpy as np

    names = readings[0].branches
    return {name: np.mean([one.branches[name] for one in readings], axis=0) for name in names}


def ratio_curve(scores: BranchScores) -> dict[str, list[float]] | None:
    """Return top-1 by the share of RGB, for sums of scores; None with a single branch."""
    if not scores.two:
        return None
    found = [guesses(fuse(scores.branches, share)) == scores.labels for share in SHARES]
    return {"share": list(SHARES), "top1": [float(one.mean()) for one in found]}


def kept_curve(run: RunDir, epoch: int) -> dict[str, list[float]] | None:
    """Return the ratio curve of an epoch's kept scores, None without them."""
    file = run.scores_of(epoch)
    try:
        return _curve_of(str(file), file.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=1024)  # a page that is served asks again every few seconds
def _curve_of(file: str, _changed: int) -> dict[str, list[float]] | None:
    return ratio_curve(unpack(Path(file).read_bytes()))


def named_ratios(extra: Mapping[str, Any]) -> dict[str, float]:
    """Return the readings at other ratios that a validation reported: {"2:1": 0.89}."""
    found = {}
    for name, value in extra.items():
        match = re.search(r"RGBPose_(\d+:\d+)_top1$", name)
        if match and isinstance(value, int | float):
            found[match.group(1)] = float(value)
    return found
