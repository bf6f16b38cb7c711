"""Run every check and put the findings in order: what stops a launch first, with its remedy."""

from pipeline.doctor import machine, plan_checks
from pipeline.doctor.finding import Check, Finding, Patient, run_check

#: In order of importance: a failing one makes those below it moot.
MACHINE: tuple[tuple[str, Check], ...] = (
    ("environment", machine.check_environment),
    ("folder", machine.check_folder),
    ("storage", machine.check_storage),
    ("gpus", machine.check_gpus),
    ("disk", machine.check_disk),
    ("ports", machine.check_ports),
)
PLAN: tuple[tuple[str, Check], ...] = (
    ("plan", plan_checks.check_plan),
    ("weights", plan_checks.check_weights),
    ("data", plan_checks.check_data),
)
LAST: tuple[tuple[str, Check], ...] = (("wandb", machine.check_wandb),)
_RANK = {"error": 0, "warning": 1, "note": 2}


def examine(patient: Patient) -> list[Finding]:
    """Return all findings, errors first, each group in order of importance."""
    checks = [*MACHINE, *(PLAN if patient.sweep is not None else ()), *LAST]
    found = [f for name, check in checks for f in run_check(name, check, patient)]
    return sorted(found, key=lambda f: _RANK[f.severity])
