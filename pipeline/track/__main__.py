"""`python -m pipeline.track RUNS/SWEEP --mode offline|live|sync`: the process that runs wandb.

Started by `mirror` (with a pipe as standard input) and by `sync`. Standard output carries one
JSON object a line; standard input wakes it up, and its end, or the line "close", ends it.
"""

import argparse
import ctypes
import json
import os
import select
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from pipeline.errors import TrackingError
from pipeline.track import sync_state
from pipeline.track.mirror_loop import MirrorLoop
from pipeline.track.run_payload import WandbTarget

POLL_S = 2.0
#: How long it may still write after the launcher is gone.
ORPHAN_S = 25.0


class CommandPipe:
    """What the launcher wants, read from standard input without waiting for it."""

    def __init__(self) -> None:
        self.closing = False
        signal.signal(signal.SIGTERM, self._orphaned)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to answer

    def wait(self) -> None:
        """Sleep until woken, told to close, or POLL_S has passed."""
        ready, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if not ready:
            return
        told = os.read(sys.stdin.fileno(), 65536)
        if not told:
            self._orphaned()
        self.closing = self.closing or b"close" in told

    def _orphaned(self, *_: object) -> None:
        """End by itself, since nobody is left who would end it."""
        if not self.closing:
            self.closing = True
            timer = threading.Timer(ORPHAN_S, os._exit, (4,))
            timer.daemon = True
            timer.start()


def main() -> int:
    """Follow a sweep until told to close."""
    parser = argparse.ArgumentParser(prog="pipeline.track")
    parser.add_argument("sweep_dir", type=Path)
    parser.add_argument("--mode", choices=["offline", "live", "sync"], required=True)
    parser.add_argument("--project", default=None)
    parser.add_argument("--entity", default=None)
    asked = parser.parse_args()
    tell = _own_stdout()
    os.nice(10)  # training comes first
    role = "tracker-offline" if asked.mode == "offline" else "tracker-sending"
    try:
        with sync_state.exclusive(asked.sweep_dir, role, wait_s=30.0):
            target = WandbTarget(project=asked.project, entity=asked.entity)
            follower = MirrorLoop(asked.sweep_dir, asked.mode, target, tell)
            return _run(follower, asked.mode == "sync", tell)
    except Exception as error:  # whatever wandb raises: said in one line, mended by a new start
        traceback.print_exc()
        said = str(error) if isinstance(error, TrackingError) else f"W&B failed: {_line(error)}"
        tell({"event": "trouble", "message": said})
        os._exit(3)  # wandb's exit hooks would wait for its dead core process


def _run(follower: MirrorLoop, once: bool, tell: Any) -> int:
    if once:
        follower.sync_once(closing=True)
        return 0
    _die_with_parent()
    orders = CommandPipe()
    while not orders.closing:
        follower.sync_once()
        tell({"event": "alive"})
        orders.wait()
    follower.sync_once(closing=True)
    return 0


def _own_stdout() -> Any:
    """Keep the pipe for events alone; what wandb prints goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(event: dict[str, Any]) -> None:
        try:
            print(json.dumps(event), file=pipe, flush=True)
        except (BrokenPipeError, ValueError):
            return  # nobody listens any more

    return tell


def _die_with_parent() -> None:
    """Ask Linux for SIGTERM when the launcher dies; elsewhere the closed pipe says it."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


if __name__ == "__main__":
    sys.exit(main())
