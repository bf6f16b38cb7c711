"""Keep W&B runs in step with the run directories of a sweep. Runs in a child process.

It only reads what the job and the control side write. Two modes share one loop:
    offline   writes W&B's offline files below each run directory
    live      sends to the server, going on where the server's rows end
What has to reach the launcher goes to `send`, one event at a time. A fault of one trial sets
that trial aside for a while; a fault of wandb's own process ends this one, to be started again.
"""

import abc
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import TrackingError
from pipeline.shared.files import FormatError
from pipeline.shared.rundir import RunDir
from pipeline.track import run_payload, sync_state, wandb_server
from pipeline.track.run_payload import TrialFiles, WandbTarget, read_trial
from pipeline.track.sync_state import Fragment
from pipeline.track.writer import RunWriter

ASIDE_S = 60.0
PAUSE_S = 30.0
CONFIRM_S = 20.0

#: Receives one event at a time.
Send = Callable[[dict[str, Any]], None]


class Session(abc.ABC):
    """A trial's W&B run while it is open; rows are written in order, each once."""

    def __init__(self, writer: RunWriter, first: int) -> None:
        self.writer = writer
        #: The number of rows written so far.
        self.next = first

    def advance(self, trial: TrialFiles) -> None:
        """Write the rows that are new, and the summary."""
        rows = run_payload.rows(trial)
        self.writer.log(rows[self.next :])
        self.next = max(self.next, len(rows))
        self.writer.update_summary(trial)

    @abc.abstractmethod
    def close(self, trial: TrialFiles) -> None:
        """End the run and record what it holds."""

    def abandon(self) -> None:
        """Drop the run after a fault, so that it can be opened again."""
        self.writer.abandon()


class OfflineSession(Session):
    """Write the rest of a trial's rows as one more offline fragment."""

    def __init__(self, trial: TrialFiles, target: WandbTarget) -> None:
        self.local = sync_state.read_local(trial)
        sync_state.drop_unverified(trial, self.local)
        filed = run_payload.identity(trial, self.local.id, target)
        super().__init__(RunWriter(trial, filed, "offline"), self.local.rows)
        self.fragment = Fragment(folder=self.writer.folder.name, first=self.next)
        self.local.fragments.append(self.fragment)
        sync_state.write_state(trial, self.local)

    def close(self, trial: TrialFiles) -> None:
        self.writer.finish()
        self.fragment.rows = self.next - self.fragment.first
        self.fragment.closed = True
        self.local.status = trial.status
        sync_state.write_state(trial, self.local)


class LiveSession(Session):
    """Send a trial's rows, beginning behind those the server already holds."""

    def __init__(self, trial: TrialFiles, target: WandbTarget, mode: str) -> None:
        self.sent = sync_state.read_sent(trial)
        self.sent.id, self.sent.mode = sync_state.read_local(trial).id, mode
        self.sent.server = wandb_server.base_url()
        self.filed = run_payload.identity(trial, self.sent.id, target)
        self._check(trial, self._query())
        writer = RunWriter(trial, self.filed, "online")
        super().__init__(writer, writer.held)
        self.sent.url = writer.url

    def close(self, trial: TrialFiles) -> None:
        self.writer.finish()
        held = self._confirmed()
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

    def _query(self) -> wandb_server.ServerRun:
        return wandb_server.held(self.filed["entity"], self.filed["project"], self.sent.id)

    def _check(self, trial: TrialFiles, held: wandb_server.ServerRun) -> None:
        """Refuse to add to a run whose rows are not the first of this trial."""
        epochs = [m.epoch for m in trial.measurements]
        expected = epochs[held.rows - 1] if 0 < held.rows <= len(epochs) else None
        last = held.last_epoch if held.last_epoch is not None else expected
        if held.rows > len(epochs) or (held.rows and last != expected):
            raise TrackingError(
                f"{trial.name}: W&B holds {held.rows} rows of run {self.sent.id} that are not "
                f"the {len(epochs)} of the run directory. Make a new run: "
                "pcan sweep sync --rebuild"
            )

    def _confirmed(self) -> wandb_server.ServerRun:
        """Ask until the server has what was sent; finish() also returns when it was refused."""
        deadline = time.monotonic() + CONFIRM_S
        while (held := self._query()).rows < self.next and time.monotonic() < deadline:
            time.sleep(0.5)
        return held


class MirrorLoop:
    """Open, advance and close the runs of all trials of a sweep.

    Args:
        sweep_dir: `runs/<sweep>`.
        mode: "offline", "live", or "sync" (live for trials that are not at work).
        target: where runs go if their spec does not name a project.
        send: receives one event at a time, for the launcher.
    """

    def __init__(self, sweep_dir: Path, mode: str, target: WandbTarget, send: Send) -> None:
        self.sweep_dir, self.mode, self.target, self.send = sweep_dir, mode, target, send
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
            except (TrackingError, FormatError, OSError) as error:
                self._set_aside(folder, error)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                # An unexpected value in a file of this trial must not stop the others.
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
        if trial is None or (session is None and not self._is_behind(trial)):
            self.seen[folder] = stamp
            return
        self.send({"event": "at", "trial": trial.name})
        session = session or self._start(trial)
        self.open[folder] = session
        session.advance(trial)
        if trial.ended or closing or self.mode == "sync":
            self.open.pop(folder)
            session.close(trial)
            self.send({"event": "done", "trial": trial.name, "rows": len(trial.measurements)})
        self.seen[folder] = stamp

    def _is_behind(self, trial: TrialFiles) -> bool:
        """Whether anything of the trial is not yet written or sent, as the mode asks."""
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
        general = isinstance(error, wandb_server.NoServer) or name in str(error)
        message = str(error) if general else f"{name}: {error}"
        self.send({"event": "trouble", "trial": name, "message": message})


def _stamp(folder: Path) -> tuple[Any, ...]:
    """Return what changes when a trial has something new to write."""
    run = RunDir(folder)
    return tuple(_size_and_time((run.measurements, run.verdicts, run.outcome, run.spec)))


def _size_and_time(files: Iterable[Path]) -> Iterable[tuple[int, int] | None]:
    for file in files:
        try:
            stat = file.stat()
            yield stat.st_size, stat.st_mtime_ns
        except OSError:
            yield None
