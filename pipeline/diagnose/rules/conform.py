"""Conformance to a plan: the logged rate against the true schedule, top-1 against the bands."""

from collections.abc import Callable, Iterator, Sequence

from pipeline.diagnose.log_case import Finding, LogCase, note, warning
from pipeline.plan.course import OffBand, off_band, off_schedule
from pipeline.plan.sweep import Variant
from pipeline.plan.verdict import percent


def conformance(
    variant: Variant, true_lr: Sequence[float] | None
) -> list[Callable[[LogCase], Iterator[Finding]]]:
    """Return the rules that compare a run with a variant of a plan.

    Args:
        true_lr: the rate in force during epochs 1, 2, ..; without it rates are not checked.
    """

    def schedule(case: LogCase) -> Iterator[Finding]:
        yield from off_the_schedule(case, variant.name, true_lr or ())

    def bands(case: LogCase) -> Iterator[Finding]:
        yield from outside_band(case, variant)

    return [schedule, bands]


def off_the_schedule(case: LogCase, name: str, true_lr: Sequence[float]) -> Iterator[Finding]:
    """Find rates that differ from the plan's true schedule (its rounded table is not used)."""
    rates = [(point.epoch, point.lr) for point in case.rates if point.lr is not None]
    different = off_schedule(rates, true_lr)
    if not different:
        return
    compared = sum(1 <= epoch <= len(true_lr) for epoch, _ in rates)
    worst = max(different, key=lambda d: d.relative)
    first = different[0]
    yield warning(
        "off_schedule",
        epoch=first.epoch,
        evidence=(
            f"{len(different)} of {compared} logged rates are not those of {name}: epoch "
            f"{first.epoch} has {first.shown:g}, the schedule gives {first.true:g}"
            + (
                f"; most at epoch {worst.epoch}: {worst.shown:g}, {worst.true:g}"
                if worst != first
                else ""
            )
        ),
        remedy="Compare optim_wrapper.optimizer.lr, param_scheduler and auto_scale_lr of the "
        "run's config with the plan's, or name the variant it is: --variant NAME",
    )


def outside_band(case: LogCase, variant: Variant) -> Iterator[Finding]:
    """Report where top-1 left the expected band; a band is a forecast, so these are notes."""
    off = off_band({point.epoch: value for point, value in case.values}, variant.bands)
    under, over = [o for o in off if o.below], [o for o in off if not o.below]
    if under:
        yield _off("below_band", under, "None by itself: the gates decide.")
    if over:
        yield _off("above_band", over, "None: better than expected.")


def _off(id: str, off: Sequence[OffBand], remedy: str) -> Finding:
    shown = "; ".join(
        f"epoch {o.epoch}: {percent(o.top1)}, expected {percent(o.low)}-{percent(o.high)}"
        for o in off
    )
    return note(id, epoch=off[0].epoch, evidence=shown, remedy=remedy)
