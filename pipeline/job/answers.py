"""Answers of the job side's tools, kept under `runs/.cache` while nothing they depend on changes.

An answer is found again by the question, the interpreter, the user's checkout and the environment,
and counts only while every file and folder that the tool has read is as it was
(`pipeline/shared/read_record.py`): configs and their bases, annotations, the user's code and the
packages.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.job.torch_tools import interpreter, job_env
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import make_private, read_json, write_json
from pipeline.shared.read_record import unchanged

#: Increased when the tools' answers change their form.
FORM = 8
#: Variables that a shell, a terminal, a session or a scheduler sets, each time to something else.
SESSION = frozenset(
    "_ PWD OLDPWD SHLVL TERM COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION TERM_SESSION_ID COLUMNS "
    "LINES LS_COLORS PS1 WINDOWID DISPLAY WAYLAND_DISPLAY XAUTHORITY STY TMUX TMUX_PANE "
    "DBUS_SESSION_BUS_ADDRESS INVOCATION_ID JOURNAL_STREAM PYTEST_CURRENT_TEST".split()
)
SESSION_PREFIXES = ("SSH_", "XDG_SESSION_", "SLURM_", "SLURMD_")


class AnswerCache:
    """The kept answers for one sweep.

    What has been compared with the disk once is not compared again by the same object.
    """

    def __init__(self, sweep: Sweep, project: Project) -> None:
        self._folder = project.cache
        self._surroundings = [
            FORM,
            sweep.job.code_root,
            interpreter(sweep.job, project.root),
            _settled(job_env(sweep.job, project.root)),
        ]
        self._valid: dict[str, bool] = {}

    def find(self, tool: str, question: Any) -> Any:
        """Return the answer to a question, None if it has to be asked (again)."""
        kept = read_json(self._file(tool, question))
        if kept is None or not self._unchanged(str(kept.get("sources"))):
            return None
        return kept["answer"]

    def keep(
        self, tool: str, question: Any, answer: Any, sources: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write an answer down, unless the disk is full or takes no files.

        Args:
            sources: the tool's record of what it has read.
        """
        name = _digest(sources)
        with contextlib.suppress(OSError):  # it is asked again next time
            make_private(self._folder)
            if not self._sources_file(name).is_file():
                write_json(self._sources_file(name), {"sources": sources}, durable=False)
            file = self._file(tool, question)
            write_json(file, {"answer": answer, "sources": name}, durable=False)

    def _unchanged(self, name: str) -> bool:
        if name not in self._valid:
            record = read_json(self._sources_file(name))
            self._valid[name] = record is not None and unchanged(record["sources"])
        return self._valid[name]

    def _file(self, tool: str, question: Any) -> Path:
        return self._folder / f"{tool}-{_digest([*self._surroundings, tool, question])}.json"

    def _sources_file(self, name: str) -> Path:
        return self._folder / f"sources-{name}.json"


def _settled(env: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that a config or the user's code may depend on."""
    return {
        key: value
        for key, value in env.items()
        if key not in SESSION and not key.startswith(SESSION_PREFIXES)
    }


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
