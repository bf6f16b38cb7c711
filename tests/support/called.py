"""Runs a command in the tests' own process, as a process of its own would find things."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from pipeline.cli.main import main


def called(
    *words: str, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command where a process of its own, 0.3 to 1 s of imports, is not what is tested."""
    printed = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    code = 0
    with contextlib.ExitStack() as changed:
        changed.enter_context(contextlib.chdir(folder))
        changed.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        changed.enter_context(mock.patch.object(sys, "argv", ["pcan", *words]))
        changed.enter_context(contextlib.redirect_stdout(printed[0]))
        changed.enter_context(contextlib.redirect_stderr(printed[1]))
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    out, err = (one.buffer.getvalue().decode() for one in printed)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(["pcan", *words], code, out, err)
