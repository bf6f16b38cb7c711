"""Reference learning curves for an estimate where nothing was measured yet: made up.

Each rises towards its own end at its own speed, so that curves cross; the late ones gain with a
falling rate, a few never learn, a few diverge. How they compare with real ones: docs/search.md.
"""

import math
import random

#: Ends of the good runs, how their speeds differ, and the noise of one reading.
TOP, SPREAD, SPEED, NOISE = 0.90, 0.05, (0.04, 0.25), 0.003
WEAK, DIVERGED = 0.25, 0.05


def reference_curves(count: int, epochs: int, seed: int = 0) -> list[list[float]]:
    """Return made-up curves, as fractions; NaN where a run has diverged."""
    rng = random.Random(f"shapes/{seed}")
    return [_curve(rng, epochs) for _ in range(count)]


def _curve(rng: random.Random, epochs: int) -> list[float]:
    end = TOP - abs(rng.gauss(0, SPREAD))
    if rng.random() < WEAK:
        end *= rng.uniform(0.3, 0.9)
    start = end * rng.uniform(0.2, 0.7)
    speed = math.exp(rng.uniform(*map(math.log, SPEED))) * epochs
    broken = rng.randint(1, epochs) if rng.random() < DIVERGED else epochs + 1
    return [
        math.nan if epoch >= broken else _value(rng, start, end, epoch, speed)
        for epoch in range(1, epochs + 1)
    ]


def _value(rng: random.Random, start: float, end: float, epoch: int, speed: float) -> float:
    value = end - (end - start) * math.exp(-epoch / speed) + rng.gauss(0, NOISE)
    return min(1.0, max(0.0, value))
