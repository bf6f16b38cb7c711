"""Run every check and put the findings in order: what stops a launch first, with its remedy."""

from pipeline.preflight import machine_checks, plan_checks
from pipeline.preflight.finding import Check, CheckContext, Finding, run_check

#: In order of importance: a failing one makes those below it moot.
MACHINE_CHECKS: tuple[tuple[str, Check], ...] = (
    ("environment", machine_checks.check_environment),
    ("folder", machine_checks.check_folder),
    ("storage", machine_checks.check_storage),
    ("gpus", machine_checks.check_gpus),
    ("disk", machine_checks.check_disk),
    ("ports", machine_checks.check_ports),
)
PLAN: tuple[tuple[str, Check], ...] = (
    ("plan", plan_checks.check_plan),
    ("weights", plan_checks.check_weights),
    ("data", plan_checks.check_data),
)
LAST: tuple[tuple[str, Check], ...] = (("wandb", machine_checks.check_wandb),)
_RANK = {"error": 0, "warning": 1, "note": 2}


def examine(patient: CheckContext) -> list[Finding]:
    """Return all findings, errors first, each group in order of importance."""
    checks = [*MACHINE_CHECKS, *(PLAN if patient.sweep is not None else ()), *LAST]
    found = [f for name, check in checks for f in run_check(name, check, patient)]
    return sorted(found, key=lambda f: _RANK[f.severity])
