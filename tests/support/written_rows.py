"""Rows of trials as the storage would return them, for what is worked out from rows alone."""

import dataclasses
from typing import Any

from pipeline.shared.states import Phase, State
from pipeline.study.trial_rows import TrialRow


def row(
    variant: str, number: int, top1: float, recipe: str | None = "h", **values: Any
) -> TrialRow:
    """Return a complete trial; its uid is its name."""
    nothing = {field.name: None for field in dataclasses.fields(TrialRow)}
    known = {"params": {}, "verdicts": (), "facts": {}, "averaged": {}, "phase": Phase.DONE}
    given = {"variant": variant, "number": number, "best_top1": top1, "recipe_hash": recipe}
    figures = {"state": State.COMPLETE, "best_epoch": 3, "uid": f"{variant}-{number}"}
    return TrialRow(**{**nothing, **known, **given, **figures, **values})
