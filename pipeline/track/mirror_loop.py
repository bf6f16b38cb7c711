"""Keep W&B runs in step with the run directories of a sweep. Runs in a child process.

It only reads what the job and the control side write. Two modes share one loop:
    offline   writes W&B's offline files below each run directory
    live      sends to the server, going on where the server's rows end
What has to reach the launcher goes to `tell`, one event at a time. A fault of one trial sets
that trial aside for a while; a fault of wandb's own process ends this one, to be started anew.
"""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import TrackingError
from pipeline.shared.rundir import RunDir
from pipeline.track import run_payload, sync_state, wandb_server
from pipeline.track.run_payload import TrialFiles, WandbTarget, read_trial
from pipeline.track.sync_state import Fragment
from pipeline.track.writer import RunWriter

ASIDE_S = 60.0
PAUSE_S = 30.0
CONFIRM_S = 20.0

Tell = Callable[[dict[str, Any]], None]


class Session(Protocol):
    """A trial's W&B run while it is open."""

    def advance(self, trial: TrialFiles) -> None:
        """Write what is new."""

    def close(self, trial: TrialFiles) -> None:
        """End the run and note what it holds."""

    def abandon(self) -> None:
        """Let the run go after a fault, so that it can be opened again."""


class OfflineSession:
    """Write the rest of a trial's rows as one more offline fragment."""

    def __init__(self, trial: TrialFiles, target: WandbTarget) -> None:
        self.local = sync_state.read_local(trial)
        sync_state.drop_unverified(trial, self.local)
        self.next = self.local.rows
        filed = run_payload.identity(trial, self.local.id, target)
        self.writer = RunWriter(trial, filed, "offline")
        self.fragment = Fragment(folder=self.writer.folder.name, first=self.next)
        self.local.fragments.append(self.fragment)
        sync_state.write_state(trial, self.local)

    def advance(self, trial: TrialFiles) -> None:
        rows = run_payload.rows(trial)
        self.writer.log(rows[self.next :])
        self.next = max(self.next, len(rows))
        self.writer.update_summary(trial)

    def close(self, trial: TrialFiles) -> None:
        self.writer.finish()
        self.fragment.rows = self.next - self.fragment.first
        self.fragment.closed = True
        self.local.status = trial.status
        sync_state.write_state(trial, self.local)

    def abandon(self) -> None:
        self.writer.abandon()


class LiveSession:
    """Send a trial's rows, beginning behind those the server already holds."""

    def __init__(self, trial: TrialFiles, target: WandbTarget, mode: str) -> None:
        self.sent = sync_state.read_sent(trial)
        self.sent.id, self.sent.mode = sync_state.read_local(trial).id, mode
        self.sent.server = wandb_server.base_url()
        self.filed = run_payload.identity(trial, self.sent.id, target)
        self.check(trial, self.ask())
        self.writer = RunWriter(trial, self.filed, "online")
        self.next = self.writer.held
        self.sent.url = self.writer.url

    def ask(self) -> wandb_server.ServerRun:
        return wandb_server.held(self.filed["entity"], self.filed["project"], self.sent.id)

    def check(self, trial: TrialFiles, held: wandb_server.ServerRun) -> None:
        """Refuse to add to a run that is not a beginning of this trial."""
        known = [m.epoch for m in trial.measurements]
        expected = known[held.rows - 1] if 0 < held.rows <= len(known) else None
        told = held.last_epoch if held.last_epoch is not None else expected
        if held.rows > len(known) or (held.rows and told != expected):
            raise TrackingError(
                f"{trial.name}: W&B holds {held.rows} rows of run {self.sent.id} that are not "
                f"the {len(known)} of the run directory. Make a new run: pcan sweep sync --rebuild"
            )

    def advance(self, trial: TrialFiles) -> None:
        rows = run_payload.rows(trial)
        self.writer.log(rows[self.next :])
        self.next = max(self.next, len(rows))
        self.writer.update_summary(trial)

    def close(self, trial: TrialFiles) -> None:
        self.writer.finish()
        held = self.confirmed()
        self.sent.rows, self.sent.status = held.rows, trial.status
        sync_state.write_state(trial, self.sent)
        if held.rows != self.next:
            raise TrackingError(
                f"{trial.name}: W&B has confirmed {held.rows} of {self.next} epochs. "
                "Send the rest later: pcan sweep sync"
            )
        sync_state.mark_synced(trial, sync_state.read_local(trial))
        # What wandb kept while sending repeats the run directory.
        shutil.rmtree(self.writer.folder, ignore_errors=True)

    def abandon(self) -> None:
        self.writer.abandon()

    def confirmed(self) -> wandb_server.ServerRun:
        """Ask until the server has what was sent; finish() also returns when it was refused."""
        deadline = time.monotonic() + CONFIRM_S
        while (held := self.ask()).rows < self.next and time.monotonic() < deadline:
            time.sleep(0.5)
        return held


class MirrorLoop:
    """Open, advance and close the runs of all trials of a sweep.

    Args:
        sweep_dir: `runs/<sweep>`.
        mode: "offline", "live", or "sync" (live for trials that are not at work).
        target: where runs go whose spec does not say.
        tell: receives one event at a time.
    """

    def __init__(self, sweep_dir: Path, mode: str, target: WandbTarget, tell: Tell) -> None:
        self.sweep_dir, self.mode, self.target, self.tell = sweep_dir, mode, target, tell
        self.open: dict[Path, Session] = {}
        self.seen: dict[Path, tuple[Any, ...]] = {}
        self.aside: dict[Path, float] = {}
        self.paused_until = 0.0

    def sync_once(self, closing: bool = False) -> None:
        """Bring every trial up to date once; when closing, also end what is open."""
        if time.monotonic() < self.paused_until and not closing:
            return
        for folder in sync_state.trial_folders(self.sweep_dir):
            try:
                self._sync_trial(folder, closing)
            except ConnectionError:
                raise  # wandb's core process is gone, and with it every open run
            except wandb_server.NoServer as error:
                self._set_aside(folder, error)
                self.aside.clear()
                self.paused_until = time.monotonic() + PAUSE_S
                return
            except (TrackingError, OSError) as error:
                self._set_aside(folder, error)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                # A file of this trial that says something unexpected must not stop the others.
                problem = f"its files cannot be read ({type(error).__name__}: {error})"
                self._set_aside(folder, TrackingError(problem))

    def _sync_trial(self, folder: Path, closing: bool) -> None:
        stamp = _stamp(folder)
        session = self.open.get(folder)
        if self.aside.get(folder, 0.0) > time.monotonic() and not closing:
            return
        if self.seen.get(folder) == stamp and not (closing and session):
            return
        trial = read_trial(folder)
        if trial is None or (session is None and not self._wants(trial)):
            self.seen[folder] = stamp
            return
        self.tell({"event": "at", "trial": trial.name})
        session = session or self._start(trial)
        self.open[folder] = session
        session.advance(trial)
        if trial.ended or closing or self.mode == "sync":
            self.open.pop(folder)
            session.close(trial)
            self.tell({"event": "done", "trial": trial.name, "rows": len(trial.measurements)})
        self.seen[folder] = stamp

    def _wants(self, trial: TrialFiles) -> bool:
        """Whether anything of the trial is not yet where this mode brings it."""
        if self.mode == "sync":
            return not sync_state.is_sent(trial)
        if not trial.ended:
            return True
        if self.mode == "live":
            return not sync_state.is_sent(trial)
        local = sync_state.read_local(trial)
        return local.rows != len(trial.measurements) or local.status != trial.status

    def _start(self, trial: TrialFiles) -> Session:
        if self.mode == "offline":
            return OfflineSession(trial, self.target)
        return LiveSession(trial, self.target, self.mode)

    def _set_aside(self, folder: Path, error: Exception) -> None:
        if session := self.open.pop(folder, None):
            session.abandon()
        self.aside[folder] = time.monotonic() + ASIDE_S
        self.seen.pop(folder, None)
        name = f"{folder.parent.name}/{folder.name}"
        said = str(error) if name in str(error) else f"{name}: {error}"
        said = str(error) if isinstance(error, wandb_server.NoServer) else said
        self.tell({"event": "trouble", "trial": name, "message": said})


def _stamp(folder: Path) -> tuple[Any, ...]:
    """What changes when there is something new to tell."""
    run = RunDir(folder)
    return tuple(_size_and_time((run.measurements, run.verdicts, run.outcome, run.spec)))


def _size_and_time(files: Iterable[Path]) -> Iterable[tuple[int, int] | None]:
    for file in files:
        try:
            found = file.stat()
            yield found.st_size, found.st_mtime_ns
        except OSError:
            yield None
