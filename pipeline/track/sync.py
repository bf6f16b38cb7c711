"""`pcan sweep sync`: send to the W&B server what it does not hold yet.

What is sent comes from the run directories, beginning where the server's rows end, so it may be
repeated and interrupted at will. Only where an offline file holds more than the run directory
(the GPU charts of a trial on a GPU) is W&B's own `wandb sync` used for it.
"""

import contextlib
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, TrackingError
from pipeline.shared.counted import counted
from pipeline.shared.files import check_schema, parsed, read_json
from pipeline.shared.rundir import RunDir
from pipeline.track import run_payload, sync_state, wandb_server
from pipeline.track.run_payload import TrialFiles, WandbTarget, read_trial
from pipeline.track.wandb_process import clean_environment, last_line, run_module

#: A silent uploader is killed, which loses nothing: it would delay the other trials.
SILENCE_S = 120.0
CHARTS_S = 120.0
ATTACH_S = 3600.0
#: The newest `best.json` that is read here.
EXPORT_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What the server has of one trial after a sync."""

    trial: str
    id: str
    epochs: int
    sent: int  # epochs the server has confirmed
    synced: bool
    new: bool  # whether this call brought it there
    url: str | None
    message: str | None  # why it is not there, or a remark

    def line(self) -> str:
        """Return the report in one line."""
        if self.synced:
            how = "sent" if self.new else "was complete"
            text = f"{self.trial}: {how}, {counted(self.epochs, 'epoch')}, {self.url or self.id}"
        else:
            epochs = counted(self.epochs, "epoch is", "epochs are")
            text = f"{self.trial}: {self.sent} of {epochs} there"
        return f"{text}. {self.message}" if self.message else text


def sync_sweep(
    sweep_dir: Path,
    target: WandbTarget,
    rebuild: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[SyncReport]:
    """Send what the server lacks of a sweep.

    Args:
        sweep_dir: `runs/<sweep>`.
        target: where runs go if their spec does not name a project.
        rebuild: make new W&B runs from the measurements, for trials whose runs were damaged or
            deleted on the server.
        progress: called with the name of each trial as it is sent.

    Raises:
        NoServer: the server cannot be used now.
    """
    if not sweep_dir.is_dir():
        raise InputError(f"{sweep_dir} has no trial yet. Start one: pcan sweep launch")
    with sync_state.exclusive(sweep_dir, "sync", wait_s=1.0):
        trials = _trials(sweep_dir)
        before = {t.name: sync_state.is_sent(t) for t in trials}
        notes = _rebuild(trials, target) if rebuild else {}
        waiting = [t for t in trials if not sync_state.is_sent(t)]
        if waiting:
            _reach(waiting[0], target)
        for trial in waiting:
            _send_charts(trial, target)
        if waiting:
            notes |= _send(sweep_dir, target, progress or (lambda _: None))
        return [_report(t, before[t.name], notes) for t in _trials(sweep_dir)]


def send_files(
    sweep_dir: Path, target: WandbTarget, configs: bool = False, export: Path | None = None
) -> None:
    """Send files as artifacts: every trial's resolved config, the winner's weights.

    Args:
        export: `exports/<sweep>`, whose best.json names the winner.

    Raises:
        TrackingError: the server did not take them.
    """
    winner = read_json(export / "best.json") if export else None
    if export and winner is None:
        raise InputError(f"{export} holds no exported winner. Make it first: pcan sweep best")
    if export and winner:
        check_schema(winner, EXPORT_SCHEMA, export / "best.json")
    for trial in _trials(sweep_dir):
        files = [f"config={RunDir(trial.folder).config}"] if configs else []
        if export and winner and trial.name == f"{winner['variant']}/{winner['number']}":
            files.append(f"weights={export / 'weights.pth'}")
        if files:
            _attach(trial, target, files)


def _attach(trial: TrialFiles, target: WandbTarget, files: Sequence[str]) -> None:
    _reach(trial, target)
    args = [str(trial.folder), *files, "--mode", "attach", *target.argv()]
    done = run_module("pipeline.track", args, ATTACH_S)
    if done.returncode != 0:
        raise TrackingError(f"{trial.name}: W&B did not take the files ({last_line(done)}).")


def _trials(sweep_dir: Path) -> list[TrialFiles]:
    trials = map(read_trial, sync_state.trial_folders(sweep_dir))
    return [trial for trial in trials if trial is not None]


def _reach(trial: TrialFiles, target: WandbTarget) -> wandb_server.ServerRun:
    """Return what the server holds of a trial's run; NoServer if it cannot be used."""
    filed = run_payload.identity(trial, sync_state.read_local(trial).id, target)
    return wandb_server.held(filed["entity"], filed["project"], filed["id"])


def _rebuild(trials: Sequence[TrialFiles], target: WandbTarget) -> dict[str, str]:
    """Discard the record of what was written and sent; a run the server knows gets a new id.

    Returns:
        A remark on each trial whose old run stays on the server, by trial.
    """
    notes = {}
    for trial in trials:
        local = sync_state.read_local(trial)
        known = _reach(trial, target).exists or sync_state.read_sent(trial).rows > 0
        old = local.id
        local.fragments, local.status = [], None
        sync_state.drop_unverified(trial, local)
        local.id = next_id(old)  # also of a run that the server does not show: it may be deleted
        if known:
            notes[trial.name] = f"the old run {old} stays on the server until you delete it there"
        sync_state.write_state(trial, local)
    return notes


def next_id(run_id: str) -> str:
    """Return the id for a rebuilt run: `x` -> `x-r2` -> `x-r3`.

    W&B does not accept a deleted id again, and the rows of a run cannot be replaced.
    """
    match = re.fullmatch(r"(.*)-r(\d+)", run_id)
    return f"{match[1]}-r{int(match[2]) + 1}" if match else f"{run_id}-r2"


def _send_charts(trial: TrialFiles, target: WandbTarget) -> None:
    """Upload the offline files of a GPU trial; what is missing afterwards is sent as rows."""
    local = sync_state.read_local(trial)
    folders = [RunDir(trial.folder).wandb / f.folder for f in local.fragments if f.closed]
    if trial.spec.device != "cuda" or not trial.ended or not folders:
        return
    whole = local.rows <= len(trial.measurements) and local.status == trial.status
    if not whole or _reach(trial, target).rows > 0 or not _complete(folders, trial):
        return
    filed = run_payload.identity(trial, local.id, target)
    where = ["--project", filed["project"]]
    where += ["--entity", filed["entity"]] if filed["entity"] else []
    with contextlib.suppress(subprocess.TimeoutExpired):
        run_module("wandb", ["sync", "--yes", *where, *map(str, folders)], CHARTS_S)


def _complete(folders: Sequence[Path], trial: TrialFiles) -> bool:
    """Whether the files hold exactly the trial's first epochs (a full disk leaves holes)."""
    epochs = [epoch for folder in folders for epoch in offline_epochs(folder)]
    return epochs == [m.epoch for m in trial.measurements][: len(epochs)] and bool(epochs)


def offline_epochs(folder: Path) -> list[int]:
    """Return the epochs in an offline folder, read with W&B's own reader."""
    epochs = []
    for file in folder.glob("run-*.wandb"):
        args = ["leet", "inspect", "--json", str(file)]
        done = run_module("wandb", args, 60, with_key=False)
        for entry in filter(_is_history, map(parsed, done.stdout.splitlines())):
            epochs.append(int(entry["history"]["item"]["epoch"]))
    return epochs


def _is_history(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("type") == "history"


def _send(sweep_dir: Path, target: WandbTarget, progress: Callable[[str], None]) -> dict[str, str]:
    """Run the sending child to its end; return the messages on trials that failed, by trial."""
    command = [sys.executable, "-P", "-m", "pipeline.track", str(sweep_dir.resolve())]
    with (sweep_dir / "tracker.log").open("ab") as log:
        child = subprocess.Popen(
            [*command, "--mode", "sync", *target.argv()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=clean_environment(with_key=True),
            cwd=sweep_dir,
        )
    try:
        return _listen(child, progress)
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _listen(child: "subprocess.Popen[bytes]", progress: Callable[[str], None]) -> dict[str, str]:
    notes: dict[str, str] = {}
    at, heard, buffer = "", time.monotonic(), b""
    assert child.stdout is not None
    while time.monotonic() - heard < SILENCE_S:
        if not select.select([child.stdout], [], [], 1.0)[0]:
            continue
        chunk = child.stdout.read1(65536)  # type: ignore[attr-defined]
        if not chunk:
            return notes
        heard, buffer = time.monotonic(), buffer + chunk
        *lines, buffer = buffer.split(b"\n")
        for event in (one for one in map(parsed, lines) if isinstance(one, dict)):
            at = event.get("trial", at)
            if event.get("event") == "at":
                progress(at)
            if event.get("event") == "trouble":
                notes[at] = str(event.get("message"))
    notes[at] = "W&B hangs; send the rest later: pcan sweep sync"
    return notes


def _report(trial: TrialFiles, before: bool, notes: dict[str, str]) -> SyncReport:
    sent, synced = sync_state.read_sent(trial), sync_state.is_sent(trial)
    general: Any = notes.get("") if not synced else None
    return SyncReport(
        trial=trial.name,
        id=sync_state.read_local(trial).id,
        epochs=len(trial.measurements),
        sent=sent.rows,
        synced=synced,
        new=synced and not before,
        url=sent.url,
        message=_with_way_out(notes.get(trial.name) or general, trial.spec.sweep),
    )


def _with_way_out(message: str | None, sweep: str) -> str | None:
    """Return a message, of a run that was deleted on the server with how to send it again."""
    if message is None or "previously created and deleted" not in message:
        return message
    return (
        "Its run was deleted on the server, which does not take that id again. Send it as a new "
        f"run: pcan sweep sync {sweep} --rebuild"
    )
