"""How long a launch waits where nothing moves; the environment may say otherwise.

These are facts of a machine (a slow disk, a test), so no key of the sweep file holds them.
"""

import math
import os

from pipeline.errors import InputError

#: Without a step for so long, at least, no job is called stuck.
STALL_FLOOR_S = 300.0
#: How long a launch with nothing left to run waits for its storage.
STORAGE_PATIENCE_S = 600.0


def stall_floor_s() -> float:
    """Return the seconds without a step that are always allowed (PCAN_STALL_S)."""
    return _seconds("PCAN_STALL_S", STALL_FLOOR_S)


def storage_patience_s() -> float:
    """Return how long an idle launch waits for its storage (PCAN_STORAGE_PATIENCE_S)."""
    return _seconds("PCAN_STORAGE_PATIENCE_S", STORAGE_PATIENCE_S)


def _seconds(name: str, default: float) -> float:
    """Read a number of seconds from the environment.

    Raises:
        InputError: it is none.
    """
    given = os.environ.get(name)
    if not given:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f'{name} is "{given}". Write seconds, such as {default:g}, or unset it.')
    return seconds
