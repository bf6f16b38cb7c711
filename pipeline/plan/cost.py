"""What a plan may cost before it starts: GPU hours of a variant and of the whole ladder."""

from collections.abc import Mapping

from pipeline.plan.sweep import Sweep, Variant


def gpu_hours(sweep: Sweep, epochs: int | None) -> float | None:
    """Return the GPU hours of these epochs, None if the plan does not say how long one takes."""
    minutes = sweep.job.epoch_minutes
    if minutes is None or epochs is None:
        return None
    return epochs * minutes / 60 * sweep.job.gpus


def worst_case_epochs(sweep: Sweep, epochs: Mapping[str, int]) -> int | None:
    """Return the most epochs the ladder can take, by rules alone.

    A variant that a gate stops costs the epochs up to that gate; the last one runs to its
    end. A crash or a non-finite loss at a late epoch is not planned and not counted.

    Args:
        epochs: number of epochs by variant, for those that leave it to the base config.
    """
    known = {n: v.epochs or epochs.get(n) for n, v in sweep.variants.items()}
    memo: dict[tuple[str, frozenset[str]], int | None] = {}

    def most(name: str, tried: frozenset[str]) -> int | None:
        key = (name, tried)
        if key not in memo:
            memo[key] = _most_from(name, tried)
        return memo[key]

    def _most_from(name: str, tried: frozenset[str]) -> int | None:
        full = known.get(name)
        if full is None:
            return None
        variant, tried = sweep.variants[name], tried | {name}
        stage = sweep.ladder.stage_after(name, tried)
        later = most(stage, tried) if stage else 0
        if later is None:
            return None
        totals = [full + later]
        for epoch, followers in _cuts(sweep, variant):
            follower = next((f for f in followers if f not in tried), None)
            rest = most(follower, tried) if follower else 0
            if rest is None:
                return None
            totals.append(min(epoch, full) + rest)
        return max(totals)

    return most(sweep.ladder.start, frozenset())


def _cuts(sweep: Sweep, variant: Variant) -> list[tuple[int, tuple[str, ...]]]:
    """Return the epochs at which the ladder can leave a variant, and what may follow."""
    stops = {gate.epoch for gate in variant.gates if gate.can_prune}
    return [
        (rule.epoch, rule.next)
        for rule in sweep.ladder.after
        if rule.epoch is not None and rule.epoch in stops
    ]
