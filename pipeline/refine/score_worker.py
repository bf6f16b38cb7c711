"""The job-side process that reads scores: one on each slot, asked one question after another."""

import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pipeline.errors import NotReady
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import interpreter, job_env
from pipeline.plan.sweep import JobSettings
from pipeline.shared.files import parsed

#: Called with clips done and all clips of a question.
Progress = Callable[[int, int], None]


class Unavailable(Exception):
    """A reading that cannot be made; the text says why, without its full stop."""


class ScoreWorker:
    """One process; it ends with this one, however that happens.

    Args:
        log: file that its output is appended to.
    """

    def __init__(self, job: JobSettings, root: Path, slot: Slot, log: Path) -> None:
        self._log = log
        env = {**job_env(job, root), "CUDA_VISIBLE_DEVICES": slot.visible}
        if not slot.gpus:
            env.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
        with open(log, "ab") as stream:
            self._process = subprocess.Popen(
                [interpreter(job, root), "-m", "pipeline.train.tools.score_clips"],
                cwd=root,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process, which then ends that one
            )
        self._number = 0
        self._lock = threading.Lock()

    def ask(self, question: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """Return the answer to a question (`pipeline.train.tools.score_clips` has their forms).

        Raises:
            Unavailable: it cannot be done; the text is the tool's.
            NotReady: the process has ended.
        """
        with self._lock:
            self._number += 1
            self._send({**question, "id": self._number})
            for line in self._stream(self._process.stdout):
                answer = parsed(line)
                if not isinstance(answer, dict) or answer.get("id") != self._number:
                    continue
                if "error" in answer:
                    raise Unavailable(str(answer["error"]).rstrip("."))
                if "of" not in answer:
                    return answer
                if progress is not None:
                    progress(answer["done"], answer["of"])
        raise self._ended()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _send(self, question: dict[str, Any]) -> None:
        stream = self._stream(self._process.stdin)
        try:
            stream.write(json.dumps(question) + "\n")
            stream.flush()
        except OSError:
            raise self._ended() from None

    def _stream(self, stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream

    def _ended(self) -> NotReady:
        code = self._process.wait()
        return NotReady(
            f"The process that reads scores ended with exit code {code}. What was read is kept; "
            f"its log: {self._log}. Run the same command again when that is fixed."
        )
