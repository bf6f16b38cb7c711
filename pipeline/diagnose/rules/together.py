"""Which findings cannot stand beside each other, and which of two then stays.

Two findings of one log that send the reader in opposite directions are worse than one. The
stronger evidence wins: what broke the run before what it did, a measured cause before a shape.
"""

from collections.abc import Iterable

from pipeline.diagnose.log_case import Finding

_SHAPES = ("best_at_start", "unstable", "overfit", "decline", "branch_collapse")
_RATES = ("warmup_on_finetune", "lr_too_small", "lr_too_large", "lr_exhausted")
_ENDS = ("early_stop_too_strict",)

#: What is left out beside each finding.
SILENCED_BY: dict[str, tuple[str, ...]] = {
    # The values after it are those of broken weights.
    "nan_loss": ("never_learned", "no_generalisation"),
    # A run at chance has no best, no decline and no rate to judge.
    "never_learned": (*_SHAPES, *_RATES, *_ENDS, "collapse", "no_generalisation"),
    # Its remedy comes first: labels and splits, then overfitting.
    "no_generalisation": (*_SHAPES, *_RATES, *_ENDS, "collapse"),
    # Broken weights neither overfit nor sink slowly, and a longer schedule would not help.
    "collapse": ("best_at_start", "overfit", "decline", "lr_exhausted", *_ENDS),
    # A rate that made things worse is the opposite of one that moved nothing.
    "lr_too_large": ("lr_too_small", "lr_exhausted"),
    # A measured falling loss is the reason for the decline.
    "overfit": ("decline", "lr_exhausted"),
    # The same fall, named by where it begins.
    "best_at_start": ("decline", "lr_exhausted"),
    "decline": ("lr_exhausted",),
    # An end with a reason is not an end without one.
    "stopped_early": ("incomplete",),
    # There is nothing to judge in what was never measured.
    "no_validation": ("no_top1",),
}

#: Pairs that must not stand together.
CONTRADICTIONS = frozenset(
    frozenset((winner, loser)) for winner, losers in SILENCED_BY.items() for loser in losers
)


def consistent(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings without those that a stronger one rules out, in their order."""
    kept = list(findings)
    for winner, losers in SILENCED_BY.items():
        if any(finding.id == winner for finding in kept):
            kept = [finding for finding in kept if finding.id not in losers]
    return kept
