"""What things of a sweep are called in Optuna."""

from pipeline.plan.sweep import Sweep


def study_name(sweep: Sweep, variant: str) -> str:
    """Return the Optuna name of a variant's study."""
    return f"{sweep.name}/{variant}"
