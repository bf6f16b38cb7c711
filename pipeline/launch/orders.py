"""What a launch is asked to run, and what of it is to be run now."""

import dataclasses

from pipeline.plan.ladder import LadderState
from pipeline.study.claim_request import ClaimRequest
from pipeline.study.trial_rows import TrialRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOrder:
    """What a search was asked for.

    Args:
        variant: whose space is searched.
        trials: how many the search has in all, those of earlier commands too.
        gpu_hours: what it may spend in all.
    """

    variant: str
    trials: int
    gpu_hours: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOrder:
    """What a launch was asked to run.

    Args:
        policy: "ladder" or "all"; ignored where variants are named.
        variants: named variants, in order.
        trials: trials per study; 1 is the recipe alone.
        confirms: trials whose repetitions on other seeds are run, and nothing else.
        search: search instead of the plan; everything else is ignored.
    """

    policy: str = "ladder"
    variants: tuple[str, ...] = ()
    trials: int = 1
    confirms: tuple[str, ...] = ()
    search: SearchOrder | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a launch is to run now.

    Args:
        requests: the trials to claim, the most urgent first.
        why: why the launch ends once none is left, in words.
        step: where the ladder is, in a launch that follows it.
        to_prune: paused trials of a search that its rule does not let resume.
        failed: wanted trials that have failed, in this launch or in an earlier one.
    """

    requests: tuple[ClaimRequest, ...]
    why: str = ""
    step: LadderState | None = None
    to_prune: tuple[TrialRow, ...] = ()
    failed: tuple[str, ...] = ()
