"""Many sweeps of recorded curves, replayed by a search's stopping rule."""

import random
from collections.abc import Callable, Sequence

from pipeline.plan.search.rules import AsyncHalving
from pipeline.plan.search.simulate import LearningCurve, SimulatedSweep, simulate


def sweeps(
    curves: Sequence[LearningCurve],
    rule: Callable[[int], AsyncHalving],
    trials: int,
    count: int,
    workers: int = 1,
    seed: int = 0,
) -> list[SimulatedSweep]:
    """Run many sweeps of curves drawn without replacement.

    Args:
        rule: makes the rule for a number of epochs.
        trials: of each sweep; no more than there are curves.
        seed: sweep i draws the same curves in the same order for every rule.
    """
    made = rule(curves[0].epochs)
    found = []
    for i in range(count):
        picked = random.Random(f"{seed}/{i}").sample(range(len(curves)), min(trials, len(curves)))
        speeds = random.Random(f"{seed}/{i}/speed")
        found.append(simulate([curves[p] for p in picked], made, workers, speeds))
    return found
