"""The oldest Python and torch that jobs run with, checked before anything is run by them.

Asked without importing torch and in the syntax of any Python, so that an interpreter that is far
too old is named as that.
"""

import json
import os
import subprocess
from pathlib import Path

from pipeline.errors import NotReady
from pipeline.job.torch_tools import interpreter
from pipeline.plan.sweep import JobSettings

#: Whole trials are run with these by tests/launch/test_older_pythons.py.
OLDEST_PYTHON, OLDEST_TORCH = (3, 8), (1, 13)
NEWEST_TORCH = (2, 13)
TRIED = "torch 1.13.1, 2.0.1, 2.4.1 on Python 3.8, 2.13.0 on Python 3.11"
ASK_S = 60
_ASK = """\
import json, sys
found = {"python": list(sys.version_info[:3]), "torch": None}
try:
    from importlib.metadata import version
    found["torch"] = version("torch")
except Exception:
    pass
print(json.dumps(found))
"""


def refuse_old_environment(job: JobSettings, root: Path) -> None:
    """Refuse an interpreter for jobs that is older than what they need; about 0.1 s.

    pcan's own environment, which runs jobs where `job.python` is not set, is recent enough.

    Raises:
        NotReady: Python or torch is too old, or the interpreter cannot be run.
    """
    if job.python is None:
        return
    python = interpreter(job, root)
    release, torch = _ask(python)
    if release < OLDEST_PYTHON:
        raise NotReady(
            f"job.python {job.python} is Python {_shown(release)}; jobs need Python "
            f"{_shown(OLDEST_PYTHON)} or newer. {_ANOTHER}"
        )
    if torch is not None and release_of(torch) < OLDEST_TORCH:
        raise NotReady(
            f"job.python {job.python} has torch {torch}; jobs need torch {_shown(OLDEST_TORCH)} "
            f"or newer. {_ANOTHER}"
        )


_ANOTHER = f"Name the interpreter of another environment in job.python (tried: {TRIED})."


def _ask(python: str) -> tuple[tuple[int, ...], str | None]:
    """Return an interpreter's release and that of its torch, None where it is not a package."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK],
            env=dict(os.environ),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=ASK_S,
            check=True,
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])  # start-up files may print, too
        return tuple(map(int, found["python"])), found["torch"]
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as error:
        raise NotReady(
            f"job.python {python} does not run as a Python: {type(error).__name__}. Write the "
            "path of the environment's interpreter, such as envs/mmaction/bin/python."
        ) from None


def release_of(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version: "2.0.1+cu117" is (2, 0)."""
    numbers = version.split("+")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _shown(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))
