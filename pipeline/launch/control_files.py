"""What the control side writes into a trial's run directory while it is run, or overruled."""

import getpass
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.job.exit_cause import Outcome
from pipeline.launch.reporters import Reporter
from pipeline.shared.files import append_line, read_json, timestamp, write_json
from pipeline.shared.measurement import Measurement, best_trained
from pipeline.shared.rundir import RunDir
from pipeline.study.owner import shown_host, this_host


class ControlFiles:
    """A launch's small files of one trial; a disk that refuses them ends no training.

    Args:
        name: the trial, for messages.
    """

    def __init__(self, rundir: RunDir, name: str, reporter: Reporter) -> None:
        self._rundir = rundir
        self._name = name
        self._reporter = reporter
        self._refused = False

    def read_verdicts(self) -> dict[Any, Any]:
        """Return the kind of the last recorded verdict of each epoch that has one."""
        records = self._rundir.read_verdicts()
        return {record.get("epoch"): record.get("verdict") for record in records}

    def add_verdict(self, record: Mapping[str, Any]) -> None:
        """Append a verdict to `verdicts.jsonl`."""
        line = json.dumps({**record, "time": timestamp()})
        self._write(lambda: append_line(self._rundir.verdicts, line))

    def acknowledge(self, epoch: int) -> None:
        """Let the job, which waits after each epoch, go on or find the stop request."""
        self._write(lambda: write_json(self._rundir.judged, {"epoch": epoch}, durable=False))

    def request_stop(self, outcome: Outcome) -> None:
        """Ask the job to stop after its epoch, with this outcome."""
        record = {"state": outcome.state, "cause": outcome.cause, "reason": outcome.reason}
        self._write(lambda: write_json(self._rundir.stop, record))

    def cancel_stop(self) -> None:
        self._write(lambda: self._rundir.stop.unlink(missing_ok=True))

    def write_outcome(self, outcome: Outcome, history: Sequence[Measurement]) -> None:
        """Write `outcome.json`, which the storage is brought in line with afterwards."""
        top = best_trained(history)
        checkpoint = self._rundir.checkpoints / f"epoch_{top.epoch}.pth" if top else None
        kept = checkpoint is not None and checkpoint.exists()
        record = {
            "state": outcome.state,
            "cause": outcome.cause,
            "reason": outcome.reason,
            "epochs": history[-1].epoch if history else 0,
            "best_epoch": top.epoch if top else None,
            "best_top1": top.top1 if top else None,
            "checkpoint": f"checkpoints/{checkpoint.name}" if checkpoint and kept else None,
        }
        self._write(lambda: write_json(self._rundir.outcome, record))

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._refused:
                where = error.filename or self._rundir.root
                self._reporter.on_message(
                    f"{self._name}: {error.strerror or error}: {where}. Training goes on; free "
                    "some space or repair the folder."
                )
            self._refused = True


def overruled(rundir: RunDir) -> tuple[tuple[int, str], ...]:
    """Return the overruled verdicts of a trial, by epoch and rule."""
    return tuple((int(one["epoch"]), str(one["rule"])) for one in overrule_records(rundir))


def overrule_records(rundir: RunDir) -> list[dict[str, Any]]:
    return list((read_json(rundir.overruled) or {}).get("overruled", []))


def overrule(rundir: RunDir, verdict: Mapping[str, Any], earlier: list[dict[str, Any]]) -> None:
    """Record that a verdict is overruled, now, by the user who runs this."""
    fields = {key: verdict.get(key) for key in ("epoch", "top1", "rule", "threshold", "reason")}
    write_json(
        rundir.overruled, {"schema": 1, "overruled": [*earlier, {**fields, **audit_stamp()}]}
    )


def audit_stamp() -> dict[str, str]:
    """Return who decides this, where and when, for the record."""
    return {"by": _user(), "host": shown_host(this_host()), "time": timestamp()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return "unknown"
