"""Run what imports wandb: always a child process, with a clean environment."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pipeline


def clean_environment(with_key: bool) -> dict[str, str]:
    """Return the environment of a process that runs W&B: what it needs, and nothing secret.

    Args:
        with_key: whether it may talk to a server.
    """
    always = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    sending = (
        "WANDB_API_KEY",
        "WANDB_BASE_URL",
        "WANDB_ENTITY",
        "WANDB_IDENTITY_TOKEN_FILE",
        "WANDB_CONFIG_DIR",
        "NETRC",
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    )
    names = (*always, *sending) if with_key else always
    kept = {name: os.environ[name] for name in names if name in os.environ}
    root = str(Path(next(iter(pipeline.__path__))).parent)
    path = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    quiet = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "PYTHONUNBUFFERED": "1"}
    return {**kept, **quiet, "PYTHONPATH": os.pathsep.join(path)}


def run_module(
    module: str, args: Sequence[str], timeout_s: float, with_key: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE` to its end and return its output.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout_s` and was killed.
    """
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *args],
        env=clean_environment(with_key),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the last line a process wrote to standard error, cut to 300 characters."""
    return (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
