"""The process that runs wandb for a launch, or for `pcan sweep sync`.

    python -m pipeline.track RUNS/SWEEP --mode offline|live|sync
    python -m pipeline.track RUNDIR KIND=FILE... --mode attach

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import TrackingError
from pipeline.track import run_payload, sync_state
from pipeline.track.mirror_loop import MirrorLoop, Send
from pipeline.track.run_payload import WandbTarget, read_trial
from pipeline.track.writer import RunWriter

POLL_S = 2.0
#: How long it may still write after the launcher is gone.
ORPHAN_S = 25.0


class CommandPipe:
    """The launcher's commands, read from standard input without blocking."""

    def __init__(self) -> None:
        self.closing = False
        signal.signal(signal.SIGTERM, self._end_soon)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the launcher

    def wait(self) -> None:
        """Sleep until woken, asked to close, or POLL_S has passed."""
        ready, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if not ready:
            return
        received = os.read(sys.stdin.fileno(), 65536)
        if not received:
            self._end_soon()
        self.closing = self.closing or b"close" in received

    def _end_soon(self, *_: object) -> None:
        """Close, and exit after ORPHAN_S at the latest: the launcher is gone."""
        if not self.closing:
            self.closing = True
            timer = threading.Timer(ORPHAN_S, os._exit, (4,))
            timer.daemon = True
            timer.start()


def main() -> int:
    """Mirror a sweep until asked to close, or attach files to one run."""
    parser = argparse.ArgumentParser(prog="pipeline.track")
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--mode", choices=["offline", "live", "sync", "attach"], required=True)
    parser.add_argument("--project", default=None)
    parser.add_argument("--entity", default=None)
    args = parser.parse_args()
    target = WandbTarget(project=args.project, entity=args.entity)
    if args.mode == "attach":
        return _attach(args.folder, args.files, target)
    return _mirror(args.folder, args.mode, target)


def _mirror(sweep_dir: Path, mode: str, target: WandbTarget) -> int:
    send = _own_stdout()
    os.nice(10)  # training comes first
    role = "tracker-offline" if mode == "offline" else "tracker-sending"
    try:
        with sync_state.exclusive(sweep_dir, role, wait_s=30.0):
            return _run(MirrorLoop(sweep_dir, mode, target, send), mode == "sync", send)
    except Exception as error:  # whatever wandb raises: sent in one line, cured by a restart
        traceback.print_exc()
        known = isinstance(error, TrackingError)
        send(
            {"event": "trouble", "message": str(error) if known else f"W&B failed: {_line(error)}"}
        )
        os._exit(3)  # wandb's exit hooks would wait for its dead core process


def _run(loop: MirrorLoop, once: bool, send: Send) -> int:
    if once:
        loop.sync_once(closing=True)
        return 0
    _die_with_parent()
    commands = CommandPipe()
    while not commands.closing:
        loop.sync_once()
        send({"event": "alive"})
        commands.wait()
    loop.sync_once(closing=True)
    return 0


def _attach(folder: Path, files: Sequence[str], target: WandbTarget) -> int:
    """Open the trial's run again, add the files as artifacts, end it as it was."""

    trial = read_trial(folder)
    if trial is None:
        print(f"{folder} is not a run directory.", file=sys.stderr)
        return 2
    filed = run_payload.identity(trial, sync_state.read_local(trial).id, target)
    writer = RunWriter(trial, filed, "online")
    for argument in files:
        kind, _, file = argument.partition("=")
        writer.attach(Path(file), kind)
    writer.update_summary(trial)
    writer.finish()
    return 0


def _own_stdout() -> Send:
    """Reserve the pipe for events; what wandb prints goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(event: dict[str, Any]) -> None:
        try:
            print(json.dumps(event), file=pipe, flush=True)
        except (BrokenPipeError, ValueError):
            return  # the launcher is gone

    return send


def _die_with_parent() -> None:
    """Ask Linux for SIGTERM when the launcher dies; elsewhere the closed pipe shows it."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


if __name__ == "__main__":
    sys.exit(main())
