"""The metric that is judged, as fractions, with its standard error.

Logs name their metrics freely and print them as fractions or in percent. Only this module
decides which metric is meant and in which unit it is.
"""

import dataclasses
import math
import re
import shlex
import statistics
import struct
from collections.abc import Iterable, Sequence

from pipeline.diagnose.curve import Curve, Point, in_line
from pipeline.plan.verdict import standard_error
from pipeline.shared.measurement import Measurement

#: Tried in this order if no metric is given; PCAN's fused top-1 first.
_PREFERRED = ("acc/RGBPose_1:1_top1", "top1", "acc/top1", "accuracy/top1", "top1_acc", "val_top1")
#: The accuracy as Lightning, Keras, fastai and others name it, where nothing says top-1: the
#: validation's, one without a place, the test set's.
_ACCURACIES = tuple(
    re.compile(rf"{place}(?:(?!mean|balanced|top)[a-z]+_)*acc(?:uracy)?(?:@?1)?", re.IGNORECASE)
    for place in (r"(?:val|eval|valid|validation)[-_/ ]", "", r"test[-_/ ]")
)
_TOP1 = re.compile(r"top[-_]?1(?!\d)", re.IGNORECASE)
_BRANCH = re.compile(r"(?:^|[/_])(rgb|pose)_top[-_]?1$", re.IGNORECASE)
#: MMPretrain and mmcls print `accuracy/top1`, `accuracy_top-1` in percent, whatever the value.
_ALWAYS_PERCENT = re.compile(r"^accuracy[/_]top", re.IGNORECASE)
#: Larger validation sets are not inferred: on a finer grid almost any value fits.
_MOST_CLIPS = 200_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One validation metric over the epochs.

    Args:
        metric: its name in the log.
        points: the validated epochs that have it.
        values: one a point: fractions; NaN where it is not finite.
        percent: whether the log has it in percent.
        clips: number of validation clips, given or inferred from the values; None if unknown.
        steps: what a few distinct values show of that number at least, for `noise` alone.
    """

    metric: str
    points: tuple[Point, ...]
    values: tuple[float, ...]
    percent: bool
    clips: int | None = None
    steps: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def finite(self) -> list[tuple[Point, float]]:
        """The trained epochs whose value is a number, ascending; epoch 0 is not a result."""
        pairs = zip(self.points, self.values, strict=True)
        return [(p, v) for p, v in pairs if math.isfinite(v) and p.epoch > 0]

    @property
    def best(self) -> tuple[Point, float] | None:
        """The best trained epoch, the first of equals."""
        return max(self.finite, key=lambda pair: (pair[1], -pair[0].epoch), default=None)

    def noise(self, at_least: float = 0.005) -> float:
        """Return a difference that chance alone rarely makes: two standard errors.

        Args:
            at_least: half a point, for a validation set whose size is unknown or large.
        """
        values = [value for _, value in self.finite]
        if not values:
            return at_least
        clips = self.clips or self.steps
        return max(at_least, 2 * (standard_error(statistics.median(values), clips) or 0.0))

    def measurements(self) -> list[Measurement]:
        """Return the metric as the judge expects it."""
        return [
            Measurement(epoch=p.epoch, top1=v, lr=p.lr, loss=p.loss)
            for p, v in zip(self.points, self.values, strict=True)
        ]


def choose_metric(curve: Curve, name: str | None = None) -> str | None:
    """Return the metric to look at: `name`, else the top-1 that the log is about.

    Returns None if the log lacks that metric, or has no top-1.
    """
    names = curve.metric_names()
    if name is not None:
        return name if name in names else None
    saved = curve.facts.save_best
    if saved in names and saved is not None and _TOP1.search(saved):
        return saved
    for preferred in _PREFERRED:
        if preferred in names:
            return preferred
    top1 = [name for name in names if _TOP1.search(name)]
    fused = [name for name in top1 if not _BRANCH.search(name)]
    plain = [name for pattern in _ACCURACIES for name in names if pattern.fullmatch(name)]
    return next(iter(fused or top1 or plain), None)


#: What is better where it is lower.
_FALLS = re.compile(
    r"loss|error|perplexity|"
    r"(?:^|[-_/ ])(?:err|mae|mse|rmse|nme|epe|wer|cer|nll|ppl)(?:$|[-_/ \d])",
    re.IGNORECASE,
)
#: What rises as a model improves, by its name.
_RISES = re.compile(
    r"acc|top|m?a[pr](?![a-z])|auc|f1|iou|dice|precision|recall|score|pck|r2|corr|kappa|psnr|ssim|ndcg",
    re.IGNORECASE,
)
_NO_ACCURACY = re.compile(r"step|time|train|top[-_]?5", re.IGNORECASE)


def falls(name: str) -> bool:
    """Whether a metric is better where it is lower, by its name: a loss or an error."""
    return _FALLS.search(name) is not None


def likely_metric(names: Sequence[str]) -> str | None:
    """Return which of the names most probably is the accuracy of the validation, None if none."""
    rising = [
        name
        for name in names
        if _RISES.search(name) and not falls(name) and not _NO_ACCURACY.search(name)
    ]
    return max(rising, key=lambda name: "acc" in name.lower(), default=None)


def how_to_name(names: Sequence[str], so: str) -> str:
    """Return the advice `so` with the metric to name; a loss or an error is never proposed."""
    likely = likely_metric(names)
    if likely is not None:
        return f"{so}: --metric {shlex.quote(likely)}"
    return (
        "None of them is an accuracy, by its name: a loss or an error is not judged. Log an "
        "accuracy of the validation, or name a metric that rises as the model improves: --metric "
        "NAME"
    )


def top1_metrics(curve: Curve) -> list[str]:
    """Return every top-1 of the log's validations."""
    return [name for name in curve.metric_names() if _TOP1.search(name)]


def branch_metrics(curve: Curve, metric: str) -> dict[str, str]:
    """Return the metrics of the RGB and the pose branch by branch, where the log has them."""
    branches: dict[str, str] = {}
    for name in curve.metric_names():
        match = _BRANCH.search(name)
        if match and name != metric:
            branches.setdefault(match[1].lower(), name)
    return branches


def series(
    curve: Curve, metric: str, clips: int | None = None, about: int | None = None
) -> Series:
    """Return one metric of a curve as fractions.

    Args:
        clips: size of the validation set, if known; otherwise it is inferred from the
            values where possible (whole multiples of 1/57 are 57 clips).
        about: its approximate size, taken where the values do not show it.
    """
    points = [point for point in curve.points if metric in point.metrics]
    logged = [point.metrics[metric] for point in points]
    percent = _is_percent(metric, logged)
    values = [value / 100 if percent else value for value in logged]
    possible = [not math.isfinite(v) or 0 <= v <= 1 + 1e-9 for v in values]
    notes = [
        f"epoch {point.epoch}{in_line(point.line)}: {metric} is {value:g}, "
        "not an accuracy; left out"
        for point, value, ok in zip(points, logged, possible, strict=True)
        if not ok
    ][:5]
    kept = [(p, v) for p, v, ok in zip(points, values, possible, strict=True) if ok]
    # 99.99999 / 100 may round above 1 by a bit.
    error = _error(logged, percent)
    fractions = tuple(min(v, 1.0) if math.isfinite(v) else math.nan for _, v in kept)
    return Series(
        metric=metric,
        points=tuple(p for p, _ in kept),
        values=fractions,
        percent=percent,
        clips=clips or infer_clips(fractions, error) or about,
        steps=infer_clips(fractions, error, least=2, by_chance=0.5),
        notes=tuple(notes),
    )


def _is_percent(metric: str, values: Iterable[float]) -> bool:
    """Whether values are in percent; a single damaged value must not change the result."""
    if _ALWAYS_PERCENT.search(metric):
        return True
    finite = [value for value in values if math.isfinite(value)]
    return 2 * sum(value > 1 for value in finite) > len(finite)


#: Beyond this many decimals a value is not rounded for print.
_PRINTED = 8
#: Relative error of an accuracy that was computed in single precision, in two or three steps.
_SINGLE = 2e-7


def _error(logged: Sequence[float], percent: bool) -> float:
    """Return how far a logged value, as a fraction, may be from the exact accuracy.

    Values of many digits are exact to double precision, or to single precision if every one is
    a number of that kind: Keras, Lightning and MMPretrain compute accuracies in it.
    """
    finite = [value for value in logged if math.isfinite(value)]
    digits = _decimals(finite)
    single = digits <= _PRINTED or all(_is_single(value) for value in finite)
    printed: float = 0.5 * 10.0 ** -min(digits, _PRINTED)
    computed = _SINGLE * max(map(abs, finite), default=0.0) if single else 0.0
    return max(printed, computed) / (100 if percent else 1)


def _is_single(value: float) -> bool:
    try:
        return bool(struct.unpack("f", struct.pack("f", value))[0] == value)
    except OverflowError:
        return False


def _decimals(values: Sequence[float]) -> int:
    """Return the fewest decimals that show every value, `_PRINTED + 1` for more."""
    digits = range(1, _PRINTED + 1)
    exact = (d for d in digits if all(abs(v - round(v, d)) < 1e-10 for v in values))
    return next(exact, _PRINTED + 1)


def infer_clips(
    values: Sequence[float],
    error: float | None = None,
    *,
    least: int = 4,
    by_chance: float = 0.01,
) -> int | None:
    """Infer the size of a validation set from its accuracies, which are multiples of 1/size.

    Args:
        values: accuracies as fractions.
        error: how far each may be from the exact one; read off their decimals if left out.
        least: how many of them have to differ. Of fewer, all may well be multiples of one part
            in half the size: then the answer is a lower limit.
        by_chance: how many smaller sizes may be expected to fit the values without meaning it.

    Returns:
        The smallest size that explains every value (off by one or two for a set of
        thousands, which hardly changes a standard error), or None if too few values differ
        or they are printed too coarsely.
    """
    distinct = sorted({value for value in values if math.isfinite(value) and 0 < value < 1})
    if len(distinct) < least:
        return None
    error = _error(distinct, percent=False) if error is None else error
    for size in range(2, min(_MOST_CLIPS, int(0.1 / error)) + 1):
        if all(abs(value * size - round(value * size)) <= size * error for value in distinct):
            # A random value fits a size n with probability 2 n error.
            expected = size * (2 * size * error) ** len(distinct)
            return size if expected < by_chance else None
    return None
