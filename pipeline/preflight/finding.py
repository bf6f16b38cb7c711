"""What the checks of `pcan doctor` get and return."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.errors import PcanError
from pipeline.job.resolve import ModelProbe, RehearsalResult, Resolution
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckFinding:
    """One thing that a check found.

    Args:
        check: the name of the check.
        severity: "error" makes a launch fail, "warning" may, "note" does not.
        message: what is wrong, with the remedy, as the user reads it.
    """

    check: str
    severity: str
    message: str

    def record(self) -> dict[str, Any]:
        """Return what `doctor --json` prints of it."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(kw_only=True)
class CheckContext:
    """What is checked: a project and, if one is named, a sweep.

    Args:
        storage_url: `--storage`.
        sets: `--set` by config path.
        resolution: the resolved variants, set by `check_plan`.
        rehearsed: what each of them would do, by name, set by `check_plan`; None where it could
            not be found on its data.
    """

    project: Project
    sweep: Sweep | None
    storage_url: str | None = None
    device: str | None = None
    gpus: str | None = None
    sets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resolution: Resolution | None = None
    rehearsed: tuple[dict[str, ModelProbe], dict[str, RehearsalResult]] | None = None


Check = Callable[[CheckContext], Iterator[CheckFinding]]


def error(check: str, message: str) -> CheckFinding:
    return CheckFinding(check=check, severity="error", message=message)


def warning(check: str, message: str) -> CheckFinding:
    return CheckFinding(check=check, severity="warning", message=message)


def note(check: str, message: str) -> CheckFinding:
    return CheckFinding(check=check, severity="note", message=message)


def run_check(name: str, check: Check, context: CheckContext) -> list[CheckFinding]:
    """Return the findings of one check; an error that it raises is a finding too."""
    findings: list[CheckFinding] = []
    try:
        findings.extend(check(context))
    except PcanError as problem:
        findings.append(error(name, str(problem)))
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        findings.append(error(name, f"{place}{problem.strerror}. Fix that first."))
    return findings
