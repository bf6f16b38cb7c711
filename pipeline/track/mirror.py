"""The launcher's side of W&B: start the child processes, restart them, end them in time.

Standard library only: the launcher never imports wandb. Whatever W&B does (hang, crash, refuse,
fill the disk) happens in a child, and training and judging do not depend on it.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pipeline.errors import InputError
from pipeline.shared.files import FormatError, make_private
from pipeline.track import sync_state
from pipeline.track.run_payload import WandbTarget, read_trial
from pipeline.track.wandb_process import clean_environment

MODES = ("offline", "live", "disabled")
#: A child silent for longer than this hangs; finish and init have shorter deadlines.
SILENCE_S = 120.0
BACKOFF_S = (2.0, 10.0, 30.0, 120.0, 300.0)


@dataclass(frozen=True, kw_only=True)
class MirrorSummary:
    """How W&B stands at the end of a launch."""

    trials: int = 0
    written: int = 0  # complete in offline files
    sent: int = 0  # confirmed by a server
    trouble: str | None = None


@dataclass
class _Child:
    """One supervised process; restarted with growing pauses when it dies or hangs."""

    sweep_dir: Path
    mode: str
    target: WandbTarget
    process: subprocess.Popen[str] | None = None
    last_event: float = 0.0
    starts: int = 0
    not_before: float = 0.0
    troubles: list[str] = field(default_factory=list)

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "pipeline.track", str(self.sweep_dir)]
        with _log(self.sweep_dir) as log:
            self.process = subprocess.Popen(
                [*command, "--mode", self.mode, *self.target.argv()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                errors="replace",
                cwd=self.sweep_dir,
                env=clean_environment(with_key=self.mode != "offline"),
                start_new_session=True,  # Ctrl-C is for the launcher, not for wandb's core
            )
        self.starts += 1
        self.last_event = time.monotonic()
        thread = threading.Thread(target=self._listen, args=(self.process.stdout,), daemon=True)
        thread.start()

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.last_event = time.monotonic()
                event = _event(line)
                if event.get("event") == "trouble":
                    self.troubles.append(str(event.get("message")))

    def keep_going(self) -> None:
        """Start it if it is not running; kill it if it hangs."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is None:
            if now - self.last_event < SILENCE_S:
                return
            self.troubles.append(f"W&B hangs ({self.mode}); it is started again.")
            self.end(0.0)
        if self.process is not None:
            self.end(0.0)
            self.process = None
            self.not_before = now + BACKOFF_S[min(self.starts, len(BACKOFF_S)) - 1]
        if now >= self.not_before:
            self.start()

    def command(self, word: str) -> None:
        """Send a command: "changed" wakes the child, "close" ends it."""
        try:
            if self.process is not None and self.process.stdin is not None:
                self.process.stdin.write(word + "\n")
                self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return  # it has died; keep_going sees that

    def end(self, deadline_s: float) -> None:
        """Wait for the child until the deadline, then kill it."""
        if self.process is None:
            return
        try:
            self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()


class Mirror:
    """A sweep's trials in W&B, for as long as `launch` lives. Its methods never raise."""

    def __init__(self, sweep_dir: Path, modes: tuple[str, ...], target: WandbTarget) -> None:
        self.sweep_dir = sweep_dir
        self.children = [_Child(sweep_dir, mode, target) for mode in modes]
        self._refused: str | None = None
        self._supervise()

    @property
    def trouble(self) -> str | None:
        """The first thing that went wrong, None if nothing did."""
        troubles = [text for child in self.children for text in child.troubles]
        return self._refused or (troubles[0] if troubles else None)

    def trials_changed(self) -> None:
        """Wake the children after a change of a run directory; restart those that have died."""
        self._supervise()
        for child in self.children:
            child.command("changed")

    def close(self, deadline_s: float = 60.0) -> MirrorSummary:
        """Let everything be written and sent for at most `deadline_s` seconds, then end."""
        until = time.monotonic() + deadline_s
        for child in self.children:
            child.not_before = 0.0  # one that has just died is started a last time
        self._supervise()
        for child in self.children:
            child.command("close")
        for child in self.children:
            child.end(max(0.0, until - time.monotonic()))
        return self._summary()

    def _supervise(self) -> None:
        try:
            for child in self.children:
                child.keep_going()
        except OSError as error:  # no process can be started; training goes on without W&B
            self._refused = f"W&B cannot be started ({error}). Later: pcan sweep sync"

    def _summary(self) -> MirrorSummary:
        try:
            read = map(read_trial, sync_state.trial_folders(self.sweep_dir))
            trials = [trial for trial in read if trial is not None]
            written = sum(sync_state.read_local(t).rows == len(t.measurements) for t in trials)
            sent = sum(sync_state.is_sent(t) for t in trials)
        except FormatError as error:
            return MirrorSummary(trouble=str(error))
        return MirrorSummary(trials=len(trials), written=written, sent=sent, trouble=self.trouble)


def start_mirror(
    sweep_runs_dir: Path, mode: str, project: str | None = None, entity: str | None = None
) -> Mirror:
    """Mirror every trial below `sweep_runs_dir` as one W&B run.

    Args:
        sweep_runs_dir: `runs/<sweep>`; created if it is missing.
        mode: "offline" writes files, "live" also sends them, "disabled" starts nothing.
        project: where runs go whose spec names no project (else "pcan").
        entity: likewise the user or team.
    """
    if mode not in MODES:
        raise InputError(f'--wandb is "{mode}". It can be offline, live or disabled.')
    target = WandbTarget(project=project, entity=entity)
    make_private(sweep_runs_dir)
    kinds = {"disabled": (), "offline": ("offline",), "live": ("offline", "live")}
    return Mirror(sweep_runs_dir.resolve(), kinds[mode], target)


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _log(sweep_dir: Path) -> IO[bytes]:
    try:
        return (sweep_dir / "tracker.log").open("ab")
    except OSError:
        return open("/dev/null", "ab")
