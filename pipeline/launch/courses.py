"""The true lr course of each variant, for the check of the logged one."""

import threading
from collections.abc import Callable, Sequence

from pipeline.errors import PcanError
from pipeline.job.resolve import Resolution, true_lr
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep


def learn_courses(
    sweep: Sweep,
    project: Project,
    resolution: Resolution,
    variants: Sequence[str],
    say: Callable[[str], None],
) -> dict[str, Sequence[float]]:
    """Find out each variant's true lr course beside the first epochs, not before them.

    Returns:
        A mapping that fills up; without a course the lr of that variant is not checked.
    """
    courses: dict[str, Sequence[float]] = {}

    def learn() -> None:
        for name in variants:
            config = {name: resolution.configs[name]}
            try:
                courses.update(true_lr(sweep, project, config))
            except (PcanError, OSError) as error:
                say(f"{name}: the lr is not checked against the schedule. {error}")

    threading.Thread(target=learn, daemon=True).start()
    return courses
