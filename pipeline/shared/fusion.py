"""RGB and pose scores as one: by any ratio, of scores or of their logarithms.

The exported metric and the table of `refine` use the same functions. Python 3.8 and NumPy; shapes:
C clips, K classes.
"""

from typing import Any, Mapping

import numpy as np

#: Half precision knows no smaller probability above zero.
LEAST = 6e-8
BRANCHES = ("rgb", "pose")


def fuse(branches: Mapping[str, Any], share: float, log: bool = False) -> Any:
    """Return the scores of both branches as one, (C, K).

    Args:
        branches: scores by branch, (C, K) each; a single branch is returned as it is.
        share: of RGB, 0 to 1.
        log: weigh logarithms: a product of powers instead of a sum.
    """
    if set(branches) != set(BRANCHES):
        (only,) = branches.values()
        return only
    rgb, pose = (logs(branches[name]) if log else branches[name] for name in BRANCHES)
    return share * rgb + (1 - share) * pose


def logs(table: Any) -> Any:
    """Return log-probabilities of scores, which are probabilities or logits, (C, K)."""
    if (table >= 0).all() and np.allclose(table.sum(axis=1), 1, atol=0.02):
        return np.log(np.maximum(table, LEAST))
    top = table.max(axis=1, keepdims=True)
    return table - top - np.log(np.exp(table - top).sum(axis=1, keepdims=True))


def guesses(scores: Any) -> Any:
    """Return the class of each clip, (C,); of equals the last, as MMAction2 breaks ties."""
    return scores.shape[1] - 1 - scores[:, ::-1].argmax(axis=1)
