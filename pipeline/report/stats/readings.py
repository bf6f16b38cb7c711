"""What a trial reads, how uncertain that is, and with which readings it may be compared.

A trial is read at its best epoch, with the predictions that its validation kept. Trials whose
samples came from different stores, or that trained in different precision, are not comparable.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import standard_error
from pipeline.shared.files import read_json
from pipeline.shared.measurement import best_trained
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import USUAL_PRECISION, TrialSpec
from pipeline.study.trial_rows import TrialRow
from pipeline.study.yardstick import Yardstick, apart, shown_names, yardstick

Store = Mapping[str, Any]
STORE_KEYS = ("store", "profile", "digest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """A trial at its best epoch.

    Args:
        right: one bit a clip, set where the prediction is right; None without predictions.
        ids: digest of the clips.
        lacking: why there are no predictions.
        store: what the samples came from.
        precision: that it was trained in, such as "bf16".
    """

    trial: str
    top1: float
    clips: int | None
    right: int | None
    ids: str | None
    lacking: str
    metric: str | None
    store: Store
    yardstick: Yardstick = Yardstick(metric=None, annotation=None, split=None)
    precision: str = USUAL_PRECISION

    @property
    def std_error(self) -> float | None:
        """The standard error of `top1`, a fraction."""
        return standard_error(self.top1, self.clips)


def read_best(folder: Path, trial: str, spec: TrialSpec) -> Reading | None:
    """Return a trial's reading at its best epoch, None if it has measured nothing.

    Args:
        folder: its run directory.
    """
    run = RunDir(folder)
    top = best_trained(run.read_measurements())
    if top is None:
        return None
    facts = read_json(run.facts) or {}
    kept, lacking = predictions(run, top.epoch, top.top1)
    if spec.imported:
        lacking = "it was imported from a log"
    clips = len(kept.labels) if kept else facts.get("val_clips")
    return Reading(
        trial=trial,
        top1=top.top1,
        clips=clips if isinstance(clips, int) and clips > 0 else None,
        right=right_clips(kept) if kept else None,
        ids=kept.ids if kept else None,
        lacking=lacking,
        metric=spec.metric,
        store=store_of(spec.data),
        yardstick=Yardstick.of(spec.metric, spec.data),
        precision=spec.precision or USUAL_PRECISION,
    )


def predictions(run: RunDir, epoch: int, top1: float) -> tuple[Predictions | None, str]:
    """Return the predictions of an epoch, or why there are none."""
    file = run.predictions_of(epoch)
    try:
        kept = Predictions.from_bytes(file.read_bytes())
    except FileNotFoundError:
        reason = (read_json(run.facts) or {}).get("no_predictions")
        return None, str(reason) if reason else f"none are kept of its epoch {epoch}"
    except (OSError, ValueError) as error:
        return None, f"{file.name} cannot be read ({error})"
    if abs(kept.top1 - top1) > 1e-9:
        return None, f"{file.name} is of another run than the measurement"
    return kept, ""


def right_clips(kept: Predictions) -> int:
    """Return the clips that were predicted right, one bit a clip."""
    pairs = zip(kept.predicted, kept.labels, strict=True)
    return int("".join("01"[guess == truth] for guess, truth in pairs) or "0", 2)


def clips_of(row: TrialRow, root: Path | None) -> int | None:
    """Return the number of clips a trial validates on, None if it is unknown.

    The trial's job writes it into the run directory. Where that is on another machine it follows
    from a verdict, whose standard error is that of a proportion.

    Args:
        root: the project's folder; None where the run directory is not there.
    """
    facts = read_json(RunDir(root / row.run_dir).facts) if root and row.run_dir else None
    clips = (facts or row.facts).get("val_clips")
    if isinstance(clips, int) and clips > 0:
        return clips
    for verdict in row.verdicts:
        top1, error = verdict.get("top1"), verdict.get("std_error")
        if isinstance(top1, float) and isinstance(error, float) and error > 0:
            return round(top1 * (1 - top1) / error**2)
    return None


def reading_error(top1: float | None, clips: int | None) -> float | None:
    """Return the standard error of a reading, None if it is unknown."""
    return None if top1 is None else standard_error(top1, clips)


def store_of(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what names a trial's store, from `data` of its specification; None is unknown."""
    return {key: (data or {}).get(key) for key in STORE_KEYS}


def shown_store(store: Store) -> str:
    """Return a store in a few words, such as "prepared fine 1a2b3c4d"."""
    digest = str(store["digest"] or "")[:8]
    return " ".join(str(word) for word in (store["store"], store["profile"], digest) if word)


def same_store(one: Store, other: Store) -> bool:
    """Whether two trials' samples came from the same store; an unknown store counts as same."""
    return None in (one["store"], other["store"]) or one == other


def incomparable(trials: Iterable[tuple[str, Store, str | None]]) -> str | None:
    """Return which trials are not comparable, and why, in sentences; None if all are alike.

    Args:
        trials: name, store and precision of each.
    """
    stores: dict[str, list[str]] = {}
    precisions: dict[str, list[str]] = {}
    for name, store, precision in trials:
        if store["store"] is not None:
            stores.setdefault(shown_store(store), []).append(name)
        precisions.setdefault(precision or USUAL_PRECISION, []).append(name)
    reasons = {
        "their samples came from different stores": stores,
        "they were trained in different precision": precisions,
    }
    found = [
        f"Not comparable, {reason} ({_listed(groups)})."
        for reason, groups in reasons.items()
        if len(groups) > 1
    ]
    return " ".join(found) or None


def _listed(groups: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{kind}: {shown_names(names)}" for kind, names in groups.items())


def incomparable_rows(sweep: Sweep, rows: Sequence[TrialRow]) -> str | None:
    """Return which measured trials are not comparable; makers of starting weights are left out."""
    measured = [r for r in rows if r.best_top1 is not None and r.variant not in sweep.makers]
    named = [
        (row.name, store_of(row.facts.get("data")), row.facts.get("precision")) for row in measured
    ]
    kinds = [(row.name, yardstick(sweep, row)) for row in measured]
    return " ".join(filter(None, (apart(kinds), incomparable(named)))) or None
