"""What several commands ask of a plan's base config: each variant's config and true lr."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import PcanError

if TYPE_CHECKING:
    from pipeline.job.resolve import ResolvedConfig
    from pipeline.plan.project import Project
    from pipeline.plan.sweep import Sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """The configs and schedules of a plan's variants, as far as they could be had.

    Args:
        problems: why something is missing, in sentences for the user.
    """

    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    configs: Mapping[str, "ResolvedConfig"] = dataclasses.field(default_factory=dict)
    true_lr: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()


def resolved(sweep: "Sweep", project: "Project", only: str | None = None) -> Resolved:
    """Resolve the variants of a plan; what fails is told, and the rest still comes.

    Args:
        only: ask for the schedule of this variant alone.
    """
    from pipeline.job.resolve import resolve_variants

    try:
        resolution = resolve_variants(sweep, project)
    except PcanError as error:
        return Resolved(problems=(str(error),))
    wanted = {n: c for n, c in resolution.configs.items() if only in (None, n)}
    rates, problems = schedules(sweep, project, wanted)
    return Resolved(
        base=resolution.base, configs=resolution.configs, true_lr=rates, problems=problems
    )


def schedules(
    sweep: "Sweep", project: "Project", configs: Mapping[str, "ResolvedConfig"]
) -> tuple[dict[str, list[float]], tuple[str, ...]]:
    """Return the true lr of each config, and what is wrong with a config, in sentences."""
    from pipeline.job.resolve import probe_configs

    try:
        found = probe_configs(sweep, project, configs)
    except PcanError as error:
        return {}, (f"No lr course. {error}",)
    rates = {name: list(one.lr) for name, one in found.items() if one.lr is not None}
    problems = [
        f"{name}: no lr course. {one.lr_error}" for name, one in found.items() if one.lr_error
    ]
    problems += [f"{name}: {problem}" for name, one in found.items() for problem in one.problems]
    return rates, tuple(problems)
