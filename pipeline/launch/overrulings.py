"""The record of overruled verdicts in a run directory: which, by whom, when."""

import datetime
import getpass
from collections.abc import Mapping
from typing import Any

from pipeline.shared.files import read_json, write_json
from pipeline.shared.rundir import RunDir
from pipeline.study.owner import shown_host, this_host


def overruled(rundir: RunDir) -> tuple[tuple[int, str], ...]:
    """Return the overruled verdicts of a trial, by epoch and rule."""
    return tuple((int(one["epoch"]), str(one["rule"])) for one in records(rundir))


def records(rundir: RunDir) -> list[dict[str, Any]]:
    return list((read_json(rundir.overruled) or {}).get("overruled", []))


def overrule(rundir: RunDir, verdict: Mapping[str, Any], earlier: list[dict[str, Any]]) -> None:
    """Record that a verdict is overruled, now, by the user who runs this."""
    fields = {key: verdict.get(key) for key in ("epoch", "top1", "rule", "threshold", "reason")}
    write_json(
        rundir.overruled, {"schema": 1, "overruled": [*earlier, {**fields, **audit_stamp()}]}
    )


def audit_stamp() -> dict[str, str]:
    """Return who decides this, where and when, for the record."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"by": _user(), "host": shown_host(this_host()), "time": now}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return "unknown"
