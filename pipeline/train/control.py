"""The job's half of the stop handshake: it asks the run directory, never the judge itself."""

import time
from typing import Any, Dict, Optional

from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir

#: Pause between two looks. The files are local and tiny; a look costs microseconds.
POLL_S = 0.02


def stop_request(rundir: RunDir) -> Optional[Dict[str, Any]]:
    """Return the control side's request to stop, or None."""
    return read_json(rundir.stop)


def wait_for_verdict(rundir: RunDir, epoch: int, limit_s: float) -> Optional[Dict[str, Any]]:
    """Wait until `epoch` is judged, and return the request to stop if there is one.

    Without an answer within `limit_s` seconds the training goes on: a control side that is
    slow or gone costs an epoch at most, never the run.
    """
    deadline = time.monotonic() + limit_s
    while True:
        judged = (read_json(rundir.judged) or {}).get("epoch", -1)
        request = stop_request(rundir)  # written before judged.json, so read after it
        if request is not None or judged >= epoch or time.monotonic() >= deadline:
            return request
        time.sleep(POLL_S)
