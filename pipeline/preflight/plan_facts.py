"""The resolved configs and true lr courses of a plan's variants."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.errors import InputError, PcanError, SweepFileError
from pipeline.job.resolve import Resolution, ResolvedConfig, probe_configs, resolve_variants
from pipeline.plan.config_checks import check_against
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.preflight.model_probe import grouped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """The configs and schedules of a plan's variants, as far as they could be resolved.

    Args:
        true_lr: of the variants whose schedule is known beforehand.
        near: those of them whose rates depend a little on the iterations of an epoch.
        ceilings: of the others, the rates if the metric that the schedule follows never stands
            still, and that metric.
        problems: why something is missing, in sentences for the user.
        refused: why a launch would refuse this plan, in sentences for the user.
        exit_code: of what kept variants from being resolved or makes a launch refuse one; else 0.
    """

    bases: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    configs: Mapping[str, ResolvedConfig] = dataclasses.field(default_factory=dict)
    true_lr: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)
    near: frozenset[str] = frozenset()
    ceilings: Mapping[str, tuple[list[float], str]] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    exit_code: int = 0


def resolve_and_check(sweep: Sweep, project: Project) -> Resolution:
    """Resolve every variant and check the plan against the result.

    Raises:
        SweepFileError, InputError, NotReady: as `resolve_variants` and `check_against`.
    """
    resolution = resolve_variants(sweep, project)
    check_against(sweep, {name: c.facts for name, c in resolution.configs.items()})
    return resolution


def resolved(sweep: Sweep, project: Project, only: str | None = None) -> Resolved:
    """Resolve the variants of a plan; a failure becomes an entry of `problems`.

    Args:
        only: return the schedule of this variant alone.
    """
    try:
        resolution = resolve_variants(sweep, project)
    except PcanError as error:
        return Resolved(problems=(str(error),), exit_code=error.exit_code)
    chosen = {n: c for n, c in resolution.configs.items() if only in (None, n)}
    found = _courses(sweep, project, chosen)
    refused = (*_contradictions(sweep, chosen), *found.refused)
    return dataclasses.replace(
        found,
        bases=resolution.bases,
        configs=resolution.configs,
        refused=refused,
        exit_code=found.exit_code or (InputError.exit_code if refused else 0),
    )


def schedules(
    sweep: Sweep, project: Project, configs: Mapping[str, ResolvedConfig]
) -> tuple[Mapping[str, list[float]], tuple[str, ...]]:
    """Return the true lr of each config, and sentences on what is wrong with a config.

    A schedule that follows a metric has no lr that is known beforehand; a sentence says so.
    """
    found = _courses(sweep, project, configs)
    unknown = [
        f"{name}: its schedule follows {metric}, so the logged lr is not compared with a table."
        for name, (_, metric) in found.ceilings.items()
    ]
    exact = {name: lr for name, lr in found.true_lr.items() if name not in found.near}
    return exact, (*found.problems, *found.refused, *unknown)


def _contradictions(sweep: Sweep, configs: Mapping[str, ResolvedConfig]) -> list[str]:
    """Return what of the plan each variant's config cannot carry out."""
    lines = []
    for name, config in configs.items():
        try:
            check_against(sweep, {name: config.facts})
        except SweepFileError as error:
            lines.append(str(error))
    return lines


def _courses(sweep: Sweep, project: Project, configs: Mapping[str, ResolvedConfig]) -> Resolved:
    """Return the rates, those that are ceilings, and what is wrong with a config."""
    try:
        probes = probe_configs(sweep, project, configs)
    except PcanError as error:
        return Resolved(problems=(f"No lr course. {error}",), exit_code=error.exit_code)
    known = {name: one for name, one in probes.items() if one.lr is not None}
    rates = {name: list(one.lr or ()) for name, one in known.items() if not one.lr_follows}
    ceilings = {
        name: (list(one.lr or ()), ", ".join(one.lr_follows))
        for name, one in known.items()
        if one.lr_follows
    }
    unknown = {name: [one.lr_error] for name, one in probes.items() if one.lr_error}
    problems = [line.replace(": ", ": no lr course. ", 1) for line in grouped(unknown)]
    refused = grouped({name: one.problems for name, one in probes.items()})
    # A launch takes a config without an lr course.
    return Resolved(
        true_lr=rates,
        near=frozenset(name for name, one in known.items() if one.near),
        ceilings=ceilings,
        problems=tuple(problems),
        refused=tuple(refused),
    )
