"""All checks of `pcan doctor`, and the order of their findings."""

from pipeline.preflight import machine_checks, plan_checks
from pipeline.preflight.finding import Check, CheckContext, CheckFinding, run_check

#: In order of importance: where one fails, those below it may not matter.
MACHINE_CHECKS: tuple[tuple[str, Check], ...] = (
    ("environment", machine_checks.check_environment),
    ("folder", machine_checks.check_folder),
    ("storage", machine_checks.check_storage),
    ("gpus", machine_checks.check_gpus),
    ("disk", machine_checks.check_disk),
    ("limits", machine_checks.check_limits),
    ("ports", machine_checks.check_ports),
)
PLAN_CHECKS: tuple[tuple[str, Check], ...] = (
    ("plan", plan_checks.check_plan),
    ("weights", plan_checks.check_weights),
    ("data", plan_checks.check_data),
    ("rehearsal", plan_checks.check_rehearsal),
)
TRACKING_CHECKS: tuple[tuple[str, Check], ...] = (("wandb", machine_checks.check_wandb),)
_RANK = {"error": 0, "warning": 1, "note": 2}


def examine(context: CheckContext) -> list[CheckFinding]:
    """Return all findings, errors first, each group in order of importance."""
    checks = [
        *MACHINE_CHECKS,
        *(PLAN_CHECKS if context.sweep is not None else ()),
        *TRACKING_CHECKS,
    ]
    findings = [finding for name, check in checks for finding in run_check(name, check, context)]
    return sorted(findings, key=lambda finding: _RANK[finding.severity])
