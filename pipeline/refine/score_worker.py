"""The job-side processes that read scores, and their slots: a GPU each, or the CPU.

A process answers one question after another, so that its model stays loaded.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import NotReady
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import interpreter, job_env
from pipeline.launch.reporters import Reporter
from pipeline.launch.slot_pool import POLL_S, SlotPool, find_slots
from pipeline.plan.sweep import JobSettings, Sweep
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


def find_reading_slots(
    sweep: Sweep,
    device: str | None,
    gpus: str | None,
    most: int | None,
    reporter: Reporter,
    wait: bool,
) -> list[Slot]:
    """Return the slots; one process needs one GPU, however many a job has.

    Raises:
        NotReady: GPUs are asked for that are not there.
    """
    single = sweep.model_copy(update={"job": sweep.job.model_copy(update={"gpus": 1})})
    return find_slots(single, device, gpus, most, reporter, wait)


def acquire_slots(slots: Sequence[Slot], name: str, reporter: Reporter, wait: bool) -> list[Slot]:
    """Hold every slot that is free, at least one.

    Raises:
        NotReady: others hold them all, and waiting was not asked for.
    """
    pool = SlotPool(slots, wait, reporter)
    held: list[Slot] = []
    while not held:
        while (slot := pool.acquire(name)) is not None:
            held.append(slot)
        if not held:
            reporter.on_status(f"{pool.blocked_by}; waiting.")
            time.sleep(POLL_S)
    return held
