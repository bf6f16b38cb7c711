"""The Python that runs jobs, and its tools: `python -m pipeline.train.tools.<tool>`.

The control side never imports torch or mmengine. What it needs of them a child process answers,
JSON in and JSON out, so a config that crashes or hangs on import does no harm here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pipeline
from pipeline.env import SECRETS
from pipeline.errors import InputError, NotReady
from pipeline.plan.sweep import JobSettings

TIMEOUT_S = 300
#: Tools that compute on a GPU where there is one; all others see none, so that looking at a config
#: takes no memory on a GPU in use.
ON_GPU = ("evaluate",)
#: The folder whose `sitecustomize.py` makes `pipeline` this package in a job's Python.
JOB_PATH = Path(pipeline.__file__).resolve().parent / "job_path"


def interpreter(job: JobSettings, root: Path) -> str:
    """Return the Python that runs jobs.

    Raises:
        NotReady: `job.python` is not a program that can be run.
    """
    if job.python is None:
        return sys.executable
    path = Path(os.path.expanduser(job.python))
    path = path if path.is_absolute() else root / path
    if not os.access(path, os.X_OK):
        raise NotReady(
            f'job.python is "{job.python}", which is not a program that can be run. Write the '
            "path of the environment's interpreter, such as envs/mmaction/bin/python."
        )
    return str(path)


def job_env(job: JobSettings, root: Path) -> dict[str, str]:
    """Return the environment of a job or a tool.

    `pipeline` is this package in it (`pipeline/job_path`); everything else is imported from the
    working directory, the user's own checkout (`job.code_root`) and the interpreter's packages,
    in this order.

    Raises:
        NotReady: `job.code_root` cannot be an entry of PYTHONPATH.
    """
    env = {key: value for key, value in os.environ.items() if key not in SECRETS}
    path = [str(JOB_PATH)]
    if job.code_root is not None:
        path.append(_import_entry(job.code_root, root))
    if env.get("PYTHONPATH"):
        path.append(env["PYTHONPATH"])
    env["PYTHONPATH"] = os.pathsep.join(path)
    # Its output is a file or a pipe of ours, whatever the terminal takes: a letter that a user's
    # code prints must not end a job. What the code itself opens is read as before.
    env["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    return env


def code_root(given: str, root: Path) -> Path:
    """Return the folder of the user's own checkout (`job.code_root`)."""
    folder = Path(os.path.expanduser(given))
    return folder if folder.is_absolute() else root / folder


def _import_entry(given: str, root: Path) -> str:
    """Return the checkout as an entry of PYTHONPATH, where a colon ends an entry.

    Jobs and tools start in the project's folder, so a path from there serves as well.
    """
    folder = code_root(given, root)
    if os.pathsep not in str(folder):
        return str(folder)
    below = os.path.relpath(folder, root)
    if os.pathsep in below:
        raise NotReady(
            f'job.code_root is "{given}": Python cannot import from a folder with a '
            f'"{os.pathsep}" in its name. Rename that folder.'
        )
    return below


def run_tool(
    tool: str,
    request: dict[str, Any],
    job: JobSettings,
    root: Path,
    gpu: str = "",
    cwd: Path | None = None,
) -> dict[str, Any]:
    """Run one tool and return its answer.

    Args:
        root: the project's folder, where paths of `job` begin.
        gpu: the id of a free GPU that the tool may compute on; "" for none.
        cwd: where the tool runs, None for `root`.

    Raises:
        InputError: the tool refused the request; the text is its own.
        NotReady: the tool could not be run.
    """
    module, python = f"pipeline.train.tools.{tool}", interpreter(job, root)
    env = job_env(job, root)
    if tool not in ON_GPU:
        env["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        done = _run([python, "-m", module], json.dumps(request), cwd or root, env)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotReady(f"{python} could not run {module}: {error}") from None
    answer = _json(done.stdout)
    if answer is not None and "error" in answer:
        raise InputError(str(answer["error"]))
    if done.returncode != 0 or answer is None:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise NotReady(f"{python} -m {module} ended with exit code {done.returncode}: {last[0]}")
    return answer


def _run(
    argv: list[str], text: str, cwd: Path, env: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=cwd,
        env=env,
        timeout=TIMEOUT_S,
        check=False,
    )


def _json(text: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
