"""What a check finds: one thing that is wrong, and what to do about it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.errors import PcanError
from pipeline.job.resolve import Resolution
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding.

    Args:
        check: which check found it.
        severity: "error" keeps a launch from succeeding, "warning" may, "note" is good to know.
        message: what is wrong, with the remedy, as the user reads it.
    """

    check: str
    severity: str
    message: str

    def record(self) -> dict[str, Any]:
        """Return the finding as `doctor --json` prints it."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(kw_only=True)
class CheckContext:
    """What is examined: a project and, if there is one, a sweep.

    Args:
        storage_url: `--storage`.
        data_root: `--set data_root`, None for what the config says.
        resolution: the resolved variants once a check has made them.
    """

    project: Project
    sweep: Sweep | None
    storage_url: str | None = None
    device: str | None = None
    gpus: str | None = None
    data_root: str | None = None
    resolution: Resolution | None = None


Check = Callable[[CheckContext], Iterator[Finding]]


def error(check: str, message: str) -> Finding:
    return Finding(check=check, severity="error", message=message)


def warning(check: str, message: str) -> Finding:
    return Finding(check=check, severity="warning", message=message)


def note(check: str, message: str) -> Finding:
    return Finding(check=check, severity="note", message=message)


def run_check(name: str, check: Check, patient: CheckContext) -> list[Finding]:
    """Run one check; what it raises is a finding too, so that the others are still made."""
    found: list[Finding] = []
    try:
        found.extend(check(patient))
    except PcanError as problem:
        found.append(error(name, str(problem)))
    except OSError as problem:
        found.append(error(name, f"{problem.filename}: {problem.strerror}. Mend that first."))
    return found
