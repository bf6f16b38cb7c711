"""What a plan will do before it costs a GPU hour, as facts and as JSON.

The configs and schedules come from the caller, who got them from child processes; what is missing
there is missing here and listed under `problems`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.plan.cost import gpu_hours, worst_case_epochs
from pipeline.plan.course import LrDifference, table_differences
from pipeline.plan.lint.lint_finding import LintContext, LintFinding
from pipeline.plan.lint.runner import lint
from pipeline.plan.recipe import ChangeLike, Difference, beyond, config_differences
from pipeline.plan.sweep import LadderRule, Sweep, Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariantView:
    """One variant: what it changes, its true lr course, what it costs at most.

    Args:
        compared_with: the variant that `changes` is relative to; None: the base config.
        changes: None if the configs could not be resolved.
        lr: in force during epochs 1, 2, ..; empty if unknown.
        follows: the metric that the schedule waits for; `lr` is then the most it can be.
        table: where the plan's lr column differs from it.
    """

    variant: Variant
    epochs: int | None
    compared_with: str | None
    changes: tuple[Difference, ...] | None
    lr: tuple[float, ...]
    table: tuple[LrDifference, ...]
    gpu_hours: float | None
    follows: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanView:
    """A plan with everything that is known before it runs."""

    sweep: Sweep
    variants: tuple[VariantView, ...]
    lint: tuple[LintFinding, ...]
    worst_epochs: int | None
    worst_gpu_hours: float | None
    problems: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def first(self) -> VariantView:
        """The variant the ladder starts with."""
        return next(v for v in self.variants if v.variant.name == self.sweep.ladder.start)


def plan_view(
    subject: LintContext,
    changes: Mapping[str, Iterable[ChangeLike]],
    problems: Sequence[str] = (),
    ceilings: Mapping[str, tuple[list[float], str]] | None = None,
    refused: Sequence[str] = (),
) -> PlanView:
    """Gather the view of a plan.

    Args:
        subject: the plan with its schedules and epochs, as for lint.
        changes: by variant, what its overrides change on the base config; empty if unknown.
        problems: why something could not be resolved.
        ceilings: by variant whose schedule follows a metric, the most its lr can be, and which.
        refused: why a launch would refuse the plan.
    """
    sweep = subject.sweep
    views = tuple(
        _variant(subject, v, changes, (ceilings or {}).get(v.name))
        for v in sweep.variants.values()
    )
    worst = worst_case_epochs(sweep, subject.epochs)
    return PlanView(
        sweep=sweep,
        variants=views,
        lint=(*_named_only(sweep, changes), *lint(subject)),
        worst_epochs=worst,
        worst_gpu_hours=gpu_hours(sweep, worst),
        problems=tuple(problems),
        refused=tuple(refused),
    )


def plan_record(view: PlanView) -> dict[str, Any]:
    """Return what `pcan sweep plan --json` prints."""
    sweep, first = view.sweep, view.first.variant
    return {
        "schema": 1,
        "sweep": sweep.name,
        "speed": sweep.job.speed.used(),
        "variants": [_variant_record(v) for v in view.variants],
        "gates": [gate.record() for gate in first.gates],
        "patience": first.patience.model_dump() if first.patience else None,
        "ladder": [
            {"after": _applies_to(sweep, rule), "when": rule.condition(), "next": list(rule.next)}
            for rule in sweep.ladder.after
        ],
        "bands": [
            {
                "epoch": b.epoch,
                "lr": b.lr,
                "top1": list(b.top1),
                "true_lr": _at(view.first, b.epoch),
            }
            for b in first.bands
        ],
        "lint": [finding.record() for finding in view.lint],
        "worst_case": {"epochs": view.worst_epochs, "gpu_hours": view.worst_gpu_hours},
        "problems": [*view.problems, *view.refused],
    }


def _variant_record(view: VariantView) -> dict[str, Any]:
    return {
        "name": view.variant.name,
        "plan": view.variant.plan,
        "in_ladder": view.variant.in_ladder,
        "starts_from": view.variant.starts_from,
        "config": view.variant.config,
        "metric": view.variant.metric,
        "epochs": view.epochs,
        "compared_with": view.compared_with,
        "changes": [dataclasses.asdict(c) for c in view.changes or ()],
        "lr": list(view.lr),
        "lr_follows": view.follows,
        "gpu_hours": view.gpu_hours,
    }


def _variant(
    subject: LintContext,
    variant: Variant,
    changes: Mapping[str, Iterable[ChangeLike]],
    ceiling: tuple[list[float], str] | None,
) -> VariantView:
    sweep, lr = subject.sweep, tuple(subject.true_lr.get(variant.name, ()))
    start = sweep.ladder.start
    compared = start if variant.name != start else None
    if variant.config != sweep.variants[start].config:
        compared = None
    epochs = subject.epochs_of(variant)
    return VariantView(
        variant=variant,
        epochs=epochs,
        compared_with=compared,
        changes=_differs(variant.name, compared, changes),
        lr=lr if ceiling is None else tuple(ceiling[0]),
        follows=None if ceiling is None else ceiling[1],
        # A fallback inherits the bands, but the lr column was written for the first variant.
        table=tuple(table_differences(variant.bands, lr)) if lr and variant.name == start else (),
        gpu_hours=gpu_hours(sweep, epochs),
    )


def _differs(
    name: str, compared: str | None, changes: Mapping[str, Iterable[ChangeLike]]
) -> tuple[Difference, ...] | None:
    if name not in changes or (compared is not None and compared not in changes):
        return None
    return tuple(config_differences(changes[compared] if compared else (), changes[name]))


def _named_only(sweep: Sweep, changes: Mapping[str, Iterable[ChangeLike]]) -> list[LintFinding]:
    """Return variants whose resolved config differs from its model in more than they name."""
    findings = []
    for name, variant in sweep.variants.items():
        same = variant.like and sweep.config_of(variant.like) == variant.config
        changed = _differs(name, variant.like, changes) if same else None
        extra = beyond(changed or (), variant.named)
        if extra:
            findings.append(
                LintFinding.error(
                    "changes_more_than_named",
                    sweep.where("variants", name),
                    f"{name} is to differ from {variant.like} in "
                    f"{', '.join(variant.named) or 'nothing'}, but also differs in "
                    f"{', '.join(extra)}",
                    why="its result could not be put down to the one change",
                    instead="the same values in both, or each difference under set",
                )
            )
    return findings


def _applies_to(sweep: Sweep, rule: LadderRule) -> list[str]:
    """Return the variants after which a rule of the ladder can match."""
    named = {sweep.ladder.start, *(name for r in sweep.ladder.after for name in r.next)}
    return [
        name
        for name, variant in sweep.variants.items()
        if name in named
        and rule.complete in (None, name)
        and (
            rule.epoch is None or any(g.can_prune and g.epoch == rule.epoch for g in variant.gates)
        )
    ]


def _at(view: VariantView, epoch: int) -> float | None:
    return view.lr[epoch - 1] if epoch <= len(view.lr) else None
