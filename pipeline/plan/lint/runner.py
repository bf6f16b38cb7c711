"""Check a plan for what overlaps, leaves a gap, or can never happen.

Reading the file refuses what is plainly wrong; here is what a file may hold and its author
would regret. A finding that the plan itself brought along, and that a reading settles, is
marked resolved and names the reading.
"""

from pipeline.plan.lint import course_checks, gate_checks, ladder_checks
from pipeline.plan.lint.lint_finding import Check, LintContext, LintFinding

CHECKS: tuple[Check, ...] = (
    *gate_checks.CHECKS,
    *ladder_checks.CHECKS,
    *course_checks.CHECKS,
)
_ORDER = ("error", "warning", "note")


def lint(subject: LintContext) -> list[LintFinding]:
    """Return all findings: open ones first, then by severity, then in the checks' order."""
    found = [finding for check in CHECKS for finding in check(subject)]
    return sorted(found, key=lambda f: (f.resolved is not None, _ORDER.index(f.severity)))
