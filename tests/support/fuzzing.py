"""How tests over generated input run: the same examples each time, or many new ones.

With `PCAN_FUZZ=N` in the environment each such test tries at least N new examples; `make slow`
does so. Without it the examples follow from the test's code alone, so that a run of the tests
fails for a change, and not for luck.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

FUZZ = int(os.environ.get("PCAN_FUZZ") or 0)


def examples(count: int) -> Callable[[Any], Any]:
    """Decorate a test by `given` to try so many examples, and mark it as `fuzz`."""
    chosen = settings(
        max_examples=max(count, FUZZ),
        derandomize=not FUZZ,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    return lambda test: pytest.mark.fuzz(chosen(test))
