"""Several logs in one command: one that cannot be read loses none of the others' answers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.cli.common.options import echo_err
from pipeline.errors import PcanError


def for_each(
    logs: Sequence[Path], work: Callable[[Path], None], entries: list[dict[str, Any]]
) -> list[PcanError]:
    """Do the work for each log; the error of one is printed and the others go on.

    Args:
        entries: the records of `--json`; a log that failed gets one with `error`.

    Returns:
        The errors.

    Raises:
        PcanError: the only log there is failed.
    """
    failed: list[PcanError] = []
    for log in logs:
        try:
            work(log)
        except PcanError as error:
            if len(logs) == 1:
                raise
            failed.append(error)
            entries.append({"schema": 1, "log": str(log), "error": str(error)})
            echo_err(str(error))
    return failed


def end_with(failed: Sequence[PcanError]) -> None:
    """End the command with the code of the first log that failed, if one did."""
    if failed:
        raise SystemExit(failed[0].exit_code)
