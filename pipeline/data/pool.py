"""Run a function over many tasks in processes of their own, each task with a time limit.

A video that is damaged in the right way makes a decoder crash or hang for ever. Here such a task
costs its worker, which is replaced, and is reported like any other failure.
"""

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """One finished task: its result, or why it has none."""

    task: Any
    result: Any = None
    error: str | None = None


def run(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    workers: int,
    limit_s: float,
    start: Callable[[], None] | None = None,
    expected: tuple[type[Exception], ...] = (),
) -> Iterator[TaskResult]:
    """Yield each task's outcome as it ends, in any order.

    Args:
        function: of one task; importable by name, as are `start` and the tasks' types.
        workers: processes.
        limit_s: a task that takes longer is ended.
        start: called once in each process.
        expected: exceptions whose text is the whole message; others bring their type along.
    """
    queue = iter(tasks)
    crew: list[_Worker] = []
    try:
        crew = [_Worker(limit_s, function, start, expected) for _ in range(workers)]
        idle, busy = list(crew), dict[Connection, _Worker]()
        while True:
            while idle:
                task = next(queue, None)
                if task is None:
                    break
                worker = idle.pop()
                worker.give(task)
                busy[worker.pipe] = worker
            if not busy:
                return
            now = time.monotonic()
            soonest = min(worker.deadline for worker in busy.values())
            ready = wait(list(busy), timeout=max(0.0, soonest - now))
            now = time.monotonic()
            ended = [w for pipe, w in busy.items() if pipe in ready or w.deadline <= now]
            for worker in ended:
                pipe = worker.pipe
                del busy[pipe]
                done = worker.take(pipe in ready)
                if not worker.alive:
                    crew.remove(worker)
                    worker = _Worker(limit_s, function, start, expected)
                    crew.append(worker)
                idle.append(worker)
                yield done
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, limit_s: float, *job: Any) -> None:
        self._limit_s = limit_s
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *job), daemon=True)
        self._process.start()
        theirs.close()
        self.alive = True
        self.deadline = 0.0
        self._task: Any = None

    def give(self, task: Any) -> None:
        self._task = task
        self.deadline = time.monotonic() + self._limit_s
        try:
            self.pipe.send(task)
        except OSError:  # it died while idle; `take` finds out
            self.deadline = 0.0

    def take(self, ready: bool) -> TaskResult:
        """Return how the task ended; ends the process if it hangs or has died."""
        error = f"took longer than {self._limit_s:g} s"
        if ready:
            try:
                result, error = self.pipe.recv()
                return TaskResult(self._task, result, error)
            except (EOFError, OSError):
                self._process.join(1)
                error = f"crashed the decoder (exit code {self._process.exitcode})"
        self.end()
        return TaskResult(self._task, error=error)

    def end(self) -> None:
        self.alive = False
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _serve(
    pipe: Connection,
    function: Callable[[Any], Any],
    start: Callable[[], None] | None,
    expected: tuple[type[Exception], ...],
) -> None:
    """Be a worker: answer tasks until the other end of the pipe closes."""
    if start is not None:
        start()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer: tuple[Any, str | None]
        try:
            answer = function(task), None
        except expected as error:
            answer = None, str(error)
        except KeyboardInterrupt:
            return
        except Exception as error:
            answer = None, f"{type(error).__name__}: {error}"
        pipe.send(answer)
