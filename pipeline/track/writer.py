"""One W&B run, opened and written. The only module that imports wandb.

Anything here may raise or hang (an outage, a killed core process, a full disk), which is why it
only ever runs in a child process of its own. Written for wandb 0.31; settings whose names start
with x_ may change, so each is given only if that release knows it.
"""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import TrackingError
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import State
from pipeline.track import run_payload
from pipeline.track.run_payload import STATUS, TrialFiles

#: wandb reports success on a full disk; below this nothing is written.
FREE_BYTES = 20 * 1024 * 1024
INIT_TIMEOUT_S = 30
FINISH_TIMEOUT_S = 30


def private_settings(charts: bool) -> dict[str, Any]:
    """Return settings that send W&B nothing but what `run_payload` derives.

    No argv, host, user, git state, code, package list or console output; system charts only where
    asked (a trial on a GPU).
    """
    settings = {
        "disable_git": True,
        "disable_code": True,
        "disable_job_creation": True,
        "save_code": False,
        "console": "off",
        "symlink": False,
        "silent": True,
        "program": "pcan",
        "host": "",
        "username": "",
        "email": "",
        "init_timeout": INIT_TIMEOUT_S,
        "finish_timeout": FINISH_TIMEOUT_S,
        "x_executable": "",
        "x_disable_meta": True,
        "x_disable_machine_info": not charts,  # also switches the charts off
        "x_disable_stats": not charts,
        "x_disable_viewer": True,
        "x_save_requirements": False,
        # The file is flushed each second instead of every 15: a kill loses less.
        "x_transaction_log_flush_interval": 1.0,
        "x_graphql_retry_max": 2,
        "x_graphql_timeout_seconds": 10.0,
        "x_file_stream_transmit_interval": 5.0,  # default 15; a row an epoch is little to send
        "x_file_stream_retry_max": 4,
        "x_file_stream_timeout_seconds": 20.0,
        "x_file_transfer_retry_max": 2,
    }
    import wandb

    known = set(wandb.Settings.model_fields)
    return {key: value for key, value in settings.items() if key in known}


class RunWriter:
    """An open W&B run of one trial.

    Args:
        trial: whose run it is.
        filed: its id (the same id resumes the run), name, group and so on.
        mode: "offline" writes below the run directory, "online" sends.
    """

    def __init__(self, trial: TrialFiles, filed: Mapping[str, Any], mode: str) -> None:
        require_space(trial.folder)
        import wandb

        charts = trial.spec.device == "cuda" and not trial.ended
        self.trial = trial
        self.run = wandb.init(
            **filed,
            mode="offline" if mode == "offline" else "online",
            dir=str(trial.folder),
            resume="allow",
            reinit="create_new",
            config=run_payload.config(trial),
            settings=wandb.Settings(**private_settings(charts), **_of_agent(trial)),
        )
        self.folder = Path(self.run.settings.sync_dir)
        if RunDir(trial.folder).wandb.resolve() not in self.folder.resolve().parents:
            # wandb moves to the system's temporary folder, silently, if it cannot write here.
            self.run.finish(exit_code=1)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise TrackingError(f"W&B cannot write below {trial.folder}. Check its permissions.")
        self.run.define_metric("epoch", hidden=True)  # the axis of the others, no chart of its own
        for names in (*run_payload.CHARTED, *run_payload.KEPT):
            hidden = names in run_payload.KEPT
            self.run.define_metric(names, step_metric="epoch", hidden=hidden)

    @property
    def held(self) -> int:
        """Rows the run had before it was opened (online only; offline it is 0)."""
        return int(self.run.starting_step or 0)

    @property
    def url(self) -> str | None:
        """Address of the run's page, when it is online."""
        address = self.run.url
        return str(address) if address else None

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows in order; each gets the next step by itself."""
        require_space(self.trial.folder)
        for row in rows:
            self.run.log(dict(row))

    def update_summary(self, trial: TrialFiles) -> None:
        """Set the summary to the trial's present state."""
        self.trial = trial
        self.run.summary.update(run_payload.summary(trial))

    def finish(self) -> None:
        """End the run. Pruned and interrupted are not failures; only FAIL is."""
        import wandb

        table = run_payload.verdict_table(self.trial)
        if table:
            columns = list(run_payload.VERDICT_COLUMNS)
            self.run.summary["verdicts"] = wandb.Table(columns=columns, data=table)
        self.run.tags = (*(self.run.tags or ()), self.trial.status)
        self.run.finish(exit_code=1 if self.trial.status == STATUS[State.FAIL] else 0)

    def abandon(self) -> None:
        """Close the run after a fault; what that raises no longer matters."""
        with contextlib.suppress(Exception):
            self.run.finish(exit_code=0)

    def attach(self, file: Path, kind: str) -> None:
        """Send a file as an artifact of the run (only ever on request)."""
        import wandb

        artifact = wandb.Artifact(f"{self.run.id}-{kind}", type=kind)
        artifact.add_file(str(file), name=file.name)
        self.run.log_artifact(artifact)


def _of_agent(trial: TrialFiles) -> dict[str, str]:
    """Return the setting that keeps a run of `wandb agent` in its W&B sweep."""
    sweep = trial.spec.wandb.get("sweep")
    return {"sweep_id": str(sweep)} if sweep else {}


def require_space(folder: Path) -> None:
    """Raise TrackingError on a nearly full disk, where W&B would lose rows silently."""
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise TrackingError(
            f"Only {free // 1024**2} MB are free where {folder} lies, and W&B loses rows silently "
            "on a full disk. Free some space; `pcan sweep sync` then sends every epoch."
        )
