"""The record on disk of a trial's W&B run. Imports no wandb, so `status` may ask.

Two small files below RUNDIR/wandb, each with one writer:
    pcan_sync.json   what the offline files hold (fragments), the id in use   by the mirror
    pcan_sent.json   what a server has confirmed                              by the sender
"""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pipeline.errors import TrackingError
from pipeline.shared.files import check_schema, read_json, write_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.track.run_payload import TrialFiles, id_of, read_trial

SCHEMA = 1
LOCAL = "pcan_sync.json"
SENT = "pcan_sent.json"


@dataclass(kw_only=True)
class Fragment:
    """One offline folder of W&B: a stretch of rows written without interruption."""

    folder: str
    first: int
    rows: int = 0
    closed: bool = False  # only a closed fragment is known to hold its rows


@dataclass(kw_only=True)
class OfflineState:
    """What the offline files of a trial hold."""

    schema: int = SCHEMA
    id: str = ""
    fragments: list[Fragment] = field(default_factory=list)
    status: str | None = None  # of the trial when the last fragment was closed

    @property
    def rows(self) -> int:
        """Rows that are certainly on disk."""
        return sum(f.rows for f in self.fragments if f.closed)


@dataclass(kw_only=True)
class ServerState:
    """What a server has confirmed."""

    schema: int = SCHEMA
    id: str = ""
    rows: int = 0
    status: str | None = None
    mode: str = "sync"
    url: str | None = None
    server: str | None = None
    time: float = 0.0


def trial_folders(sweep_dir: Path) -> list[Path]:
    """Return the run directories of a sweep, by variant and number."""
    folders = [spec.parent for spec in sweep_dir.glob("*/*/spec.json")]
    return sorted(folders, key=lambda p: (p.parent.name, len(p.name), p.name))


def read_local(trial: TrialFiles) -> OfflineState:
    """Return what the offline files hold; an empty record for a new trial.

    Raises:
        FormatError: a newer version wrote it.
    """
    return _local(_folder(trial), trial.spec)


def _local(folder: Path, spec: TrialSpec) -> OfflineState:
    record = _record(folder, LOCAL)
    try:
        fragments = [Fragment(**f) for f in record.pop("fragments", [])]
        local = OfflineState(**record, fragments=fragments)
    except (TypeError, AttributeError):  # damaged: the run directory can rebuild everything
        local = OfflineState()
    local.id = local.id or id_of(spec)
    return local


def _record(folder: Path, name: str) -> dict[str, Any]:
    try:
        record = read_json(folder / name) or {}
    except OSError:  # unreadable counts as missing: everything can be written again
        return {}
    check_schema(record, SCHEMA, folder / name)
    return record


def read_sent(trial: TrialFiles) -> ServerState:
    """Return what the server has confirmed for the run id in use.

    Raises:
        FormatError: a newer version wrote it.
    """
    return _sent(_folder(trial), read_local(trial))


def _sent(folder: Path, local: OfflineState) -> ServerState:
    try:
        sent = ServerState(**_record(folder, SENT))
    except TypeError:
        sent = ServerState()
    return sent if sent.id == local.id else ServerState()


def write_state(trial: TrialFiles, state: OfflineState | ServerState) -> None:
    """Write a record beside the offline files."""
    folder = _folder(trial)
    folder.mkdir(exist_ok=True)
    if isinstance(state, ServerState):
        state.time = time.time()
    write_json(folder / (SENT if isinstance(state, ServerState) else LOCAL), asdict(state))


def is_sent(trial: TrialFiles) -> bool:
    """Whether the server has confirmed everything that the trial has so far."""
    sent = read_sent(trial)
    return sent.rows == len(trial.measurements) and sent.status == trial.status


def untracked() -> dict[str, Any]:
    """Return `wandb_state` of a trial that was not tracked, or is on another host."""
    return {"id": None, "mode": "disabled", "synced": False, "url": None}


def wandb_state(folder: Path) -> dict[str, Any]:
    """Return a trial's W&B run as `status --json` shows it.

    Returns:
        `id`; `mode`: offline, live, or disabled where nothing was tracked; `synced`: whether a
        server confirmed everything; `url` once there is one.
    """
    run = RunDir(folder)
    spec = run.read_spec()
    if spec is None:
        return untracked()
    kept = run.wandb
    local = _local(kept, spec)
    sent = _sent(kept, local)
    # Epochs are only counted where something was sent: `status` asks this of every trial.
    whole = read_trial(folder) if sent.id else None
    mode = spec.wandb.get("mode")
    if sent.mode == "live":
        mode = "live"
    elif not mode:
        tracked = sent.id or (kept / LOCAL).exists()
        mode = "offline" if tracked else "disabled"
    return {
        "id": local.id,
        "mode": mode,
        "synced": whole is not None and is_sent(whole),
        "url": sent.url,
    }


def drop_unverified(trial: TrialFiles, local: OfflineState) -> None:
    """Delete offline folders whose rows cannot be verified; their rows are written again.

    A killed writer leaves a fragment that silently lost up to its last seconds. The run directory
    has every row, so an unverified fragment is not needed.
    """
    verified: list[Fragment] = []
    for fragment in local.fragments:
        follows_on = fragment.first == sum(f.rows for f in verified)
        if fragment.closed and follows_on and (_folder(trial) / fragment.folder).is_dir():
            verified.append(fragment)
    local.fragments = verified
    keep = {f.folder for f in verified}
    for folder in _folder(trial).glob("offline-run-*"):
        if folder.is_dir() and folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(trial: TrialFiles) -> Path:
    return RunDir(trial.folder).wandb


def mark_synced(trial: TrialFiles, local: OfflineState) -> None:
    """Mark the offline files as sent for W&B's own `wandb sync`, so that no row comes twice."""
    for fragment in local.fragments:
        for file in (_folder(trial) / fragment.folder).glob("run-*.wandb"):
            Path(f"{file}.synced").touch()


@contextmanager
def exclusive(folder: Path, name: str, wait_s: float) -> Iterator[None]:
    """Hold a lock file for the block; the kernel releases it when the process dies.

    `filelock` would do the same, but its import takes 0.2 s, and on a file system without flock
    it falls back to a marker file, which a killed process leaves behind.

    The package `filelock` is not used: where flock is missing it falls back to marker files, which
    outlive a killed process.

    Raises:
        TrackingError: another process still has it after `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    with (folder / f".{name}.lock").open("w") as stream:
        while not _locked(stream):
            if time.monotonic() > deadline:
                raise TrackingError(
                    f"Another process is already sending this sweep to W&B ({name}). "
                    "Wait for it to end, or stop that launch: pcan sweep stop"
                )
            time.sleep(0.2)
        yield


def _locked(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise TrackingError(
            f"{stream.name} cannot be locked: its file system gives no locks ({error.strerror}). "
            "Keep runs/ on another disk (it may be a link) to send to W&B."
        ) from None
    return True
