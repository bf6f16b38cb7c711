"""Replays of the complete curves that `search_utd.py --curves` kept: rules, checks, lr's gain.

    python benchmarks/search_replay.py benchmarks/results/utd_curves_8.json
    python benchmarks/search_replay.py --gain benchmarks/results/utd_curves_8.json FOLDER/*_30.npz

A sweep takes some of a seed's trials, in random order; each rule gets the same sweeps, by the
product's own simulator. Beside a rule stand as many epochs spent on trials run whole. With
`--gain` what is known of finished runs corrects the reading; `.npz` files are those of real small
fine-tunings, 160 configurations each.
"""

import argparse
import dataclasses
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.plan.search.cost_estimate import WholeTrials, at_same_cost
from pipeline.plan.search.rules import AsyncHalving, RungReading, SyncHalving
from pipeline.plan.search.simulate import LearningCurve, SimulatedSweep, simulate
from pipeline.plan.sweep import Patience

#: Trials of a sweep of UTD, less than a seed has, so that sweeps differ; and of one of a file.
TRIALS, MANY = 10, 20
SWEEPS, GAIN_SWEEPS = 200, 40
#: A line through fewer lrs than these, or closer ones, says nothing.
FEWEST_KNOWN, LR_SPAN = 2, 4.0
#: How far lrs lie from the good ones in a narrow space, as a factor from end to end.
NARROW = 12.0
#: Patience of the plan, of 60 epochs or more; with the guard what a trial ends by of itself.
PATIENCE = Patience(epochs=15, min_delta=0.0005)


@dataclasses.dataclass(frozen=True)
class CompleteRun:
    """A run to its end: its lr and its curve."""

    lr: float
    curve: LearningCurve

    @property
    def end(self) -> float:
        """The best value of all epochs, NaN where there was none."""
        return self.curve.bests[-1]


def rules(epochs: int) -> dict[str, AsyncHalving]:
    """Return the rules that are replayed, the product's default first; equal checks once."""
    later = {"at 1/4, 1/2": (1 / 4, 1 / 2), "at 1/6, 1/3, 1/2": (1 / 6, 1 / 3, 1 / 2)}
    later |= {"at 1/3, 1/2": (1 / 3, 1 / 2), "at 3/8, 3/4": (3 / 8, 3 / 4)}
    found: dict[str, AsyncHalving] = {}
    for averaged in (True, False):
        read = "averaged" if averaged else "best"
        for kind, name in ((SyncHalving, "ladder"), (AsyncHalving, "halving")):
            found[f"{name}, {read}"] = kind(epochs, averaged=averaged)
            found[f"{name}, {read}, keep 0.6"] = kind(epochs, keep=0.6, averaged=averaged)
        for name, at in later.items():
            found[f"ladder, {read}, {name}"] = SyncHalving(epochs, at, averaged=averaged)
    first: dict[Any, str] = {}
    for name, rule in found.items():
        first.setdefault((type(rule), rule.keep, rule.checks, rule.averaged), name)
    return {name: found[name] for name in first.values()}


def read_seeds(file: Path, patience: Patience | None = None) -> list[list[CompleteRun]]:
    """Return the complete runs of each seed; of the seed that read averages, of an .npz file."""
    if file.suffix == ".npz":
        return [_read_arrays(file)]
    seeds = json.loads(file.read_text())["seeds"]
    return [[_kept_run(one, patience) for one in seed["trials"]] for seed in seeds]


def _kept_run(one: Mapping[str, Any], patience: Patience | None) -> CompleteRun:
    averaged = {int(epoch): value for epoch, value in one["averaged"].items()}
    curve = LearningCurve.of(one["top1"], patience=patience, averaged=averaged)
    return CompleteRun(one["lr"], curve)


def _read_arrays(file: Path) -> list[CompleteRun]:
    with np.load(file) as content:
        clips, looks = int(content["count"]), content["looks"].tolist()
        raw, averaged = content["raw"][0] / clips, content["avg"][:, :, 1] / clips
        lrs = content["hp_lr"].tolist()
    raw, averaged = (np.where(one < 0, np.nan, one).tolist() for one in (raw, averaged))
    return [
        CompleteRun(lr, LearningCurve.of(row, averaged=dict(zip(looks, read, strict=True))))
        for lr, row, read in zip(lrs, raw, averaged, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class Replayed:
    """A rule on the sweeps of one seed: what each gave, and the bar."""

    sweeps: Sequence[SimulatedSweep]
    whole: WholeTrials

    @property
    def cost(self) -> float:
        return statistics.fmean(one.cost for one in self.sweeps)

    @property
    def loss(self) -> float:
        """Points lost on average."""
        return 100 * statistics.fmean(one.regret for one in self.sweeps)

    @property
    def error(self) -> float:
        """Standard error of `loss` over the sweeps."""
        spread = statistics.stdev(one.regret for one in self.sweeps)
        return 100 * spread / math.sqrt(len(self.sweeps))


def replay(runs: Sequence[CompleteRun], rule: AsyncHalving, trials: int = TRIALS) -> Replayed:
    """Replay a rule on random sweeps of a seed's runs, the same ones for every rule."""
    curves = [run.curve for run in runs]
    draws = [random.Random(f"draw/{i}").sample(curves, trials) for i in range(SWEEPS)]
    found = [simulate(picked, rule) for picked in draws]
    return Replayed(found, at_same_cost(draws, found))


def gain_line(known: Sequence[tuple[float, float]]) -> Callable[[float], float] | None:
    """Return what a run of an lr is expected to gain still, never less than nothing.

    Args:
        known: lr and gain of finished runs.

    Returns:
        None where their lrs do not span the factor that a line needs.
    """
    lrs = [lr for lr, _ in known]
    if len(known) < FEWEST_KNOWN or max(lrs) < LR_SPAN * min(lrs):
        return None
    line = statistics.linear_regression([math.log(lr) for lr in lrs], [gain for _, gain in known])
    return lambda lr: max(0.0, line.intercept + line.slope * math.log(lr))


def corrected(
    runs: Sequence[CompleteRun], known: Sequence[CompleteRun], checks: Sequence[int], own: bool
) -> list[LearningCurve]:
    """Return the runs' curves with the predicted end as their reading at each check.

    Args:
        own: add the gain to the greater of both values; otherwise to the best so far, and the
            averaged value still counts where it is greater.
    """
    ended = [run for run in known if math.isfinite(run.end)]
    lines = {
        check: gain_line([(run.lr, run.end - _read(run.curve, check, own)) for run in ended])
        for check in checks
    }
    return [
        dataclasses.replace(
            run.curve,
            averaged={
                check: max(
                    _read(run.curve, check, averaged=True),
                    _read(run.curve, check, own) + (line(run.lr) if line else 0.0),
                )
                for check, line in lines.items()
            },
        )
        for run in runs
    ]


def _read(curve: LearningCurve, check: int, averaged: bool) -> float:
    value = curve.averaged.get(check) if averaged else None
    return RungReading.of(curve.bests[check - 1], value).value


def gains(
    runs: Sequence[CompleteRun], count: int, narrow: bool, sweeps: int = GAIN_SWEEPS
) -> dict[str, list[float]]:
    """Return the points that the default loses in each sweep, plain and corrected in two ways.

    Args:
        count: known runs, drawn anew for each sweep; the others are searched.
        narrow: whether the known runs' lrs are close to the good ones, as recipes' are.
    """
    rule = SyncHalving(runs[0].curve.epochs, averaged=True)
    near = _near_the_good(runs) if narrow else range(len(runs))
    found: dict[str, list[float]] = {"plain": [], "on the best so far": [], "on the reading": []}
    for i in range(sweeps):
        rng = random.Random(f"gain/{i}")
        known = rng.sample(near, min(count, len(near)))
        others = [n for n in range(len(runs)) if n not in known]
        picked = [runs[n] for n in rng.sample(others, min(MANY, len(others)))]
        sure = [runs[n] for n in known]
        ways = {
            "plain": [run.curve for run in picked],
            "on the best so far": corrected(picked, sure, rule.checks, own=False),
            "on the reading": corrected(picked, sure, rule.checks, own=True),
        }
        for name, curves in ways.items():
            found[name].append(100 * simulate(curves, rule).regret)
    return found


def _near_the_good(runs: Sequence[CompleteRun]) -> list[int]:
    """Return the runs whose lr lies in a narrow range about the lrs of the best tenth."""
    order = sorted(range(len(runs)), key=lambda n: runs[n].end if runs[n].end >= 0 else -1.0)
    best = order[-max(1, len(runs) // 10) :]
    good = statistics.fmean(math.log(runs[n].lr) for n in best)
    return [
        n for n, run in enumerate(runs) if abs(math.log(run.lr) - good) <= math.log(NARROW) / 2
    ]


def rule_table(file: Path) -> None:
    """Print the points that each rule loses on a file's seeds, beside trials run whole."""
    seeds = read_seeds(file, PATIENCE)
    print(f"\n{file.name}: {[len(runs) for runs in seeds]} runs, {TRIALS} trials a sweep\n")
    print(
        "| rule | checks | epochs | points lost, by seed | mean | misses | whole | lose | gain |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rule in rules(seeds[0][0].curve.epochs).items():
        found = [replay(runs, rule) for runs in seeds]
        by_seed = ", ".join(f"{one.loss:.1f} ± {one.error:.1f}" for one in found)
        mean = statistics.fmean(one.loss for one in found)
        misses = statistics.fmean(s.missed for one in found for s in one.sweeps)
        whole = statistics.fmean(one.whole.trials for one in found)
        bar = 100 * statistics.fmean(one.whole.loss for one in found)
        gain = [100 * one.whole.gain for one in found]
        error = statistics.stdev(gain) / math.sqrt(len(gain)) if len(gain) > 1 else math.nan
        print(
            f"| {name} | {', '.join(map(str, rule.checks))} "
            f"| {statistics.fmean(one.cost for one in found):.1%} | {by_seed} | {mean:.2f} "
            f"| {misses:.0%} | {whole:.1f} | {bar:.2f} "
            f"| {statistics.fmean(gain):+.2f} ± {error:.2f} |"
        )


def gain_table(files: Sequence[Path]) -> None:
    """Print the points that the default loses, plain and with the gain correction."""
    print("| file | known | lrs | plain | on the best so far | on the reading |")
    print("|---|---|---|---|---|---|")
    for file in files:
        for seed, runs in enumerate(read_seeds(file)):
            for narrow in (False, True):
                for count in (3, 5, 8):
                    found = gains(runs, count, narrow)
                    lost = " | ".join(f"{statistics.fmean(one):.2f}" for one in found.values())
                    near = "near the good" if narrow else "anywhere"
                    print(f"| {file.stem}/{seed} | {count} | {near} | {lost} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--gain", action="store_true", help="replay the gain correction")
    args = parser.parse_args()
    if args.gain:
        gain_table(args.files)
        return
    for file in args.files:
        rule_table(file)


if __name__ == "__main__":
    main()
