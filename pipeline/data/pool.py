"""Run a function over many tasks in processes of their own, each task with a time limit.

A damaged video can make a decoder crash or hang for ever. Here such a task costs its worker, which
is replaced, and is reported like any other failure. Each worker has a pipe of its own, so that one
that is killed while it sends takes nothing else with it (docs/decisions/041).
"""

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

#: A worker's first task may take this much longer: its interpreter starts first.
START_S = 60.0


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """One finished task: its result, or why it has none."""

    task: Any
    result: Any = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class _Job:
    """What every worker of a pool does; the arguments of `run`."""

    function: Callable[[Any], Any]
    limit_s: float
    start: Callable[[], None] | None
    expected: tuple[type[Exception], ...]


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
        expected: exceptions whose text is the whole message; others are given with their type.
    """
    pool = _Pool(_Job(function, limit_s, start, expected), workers)
    try:
        for task in tasks:
            if not pool.idle:
                yield from pool.finished()
            pool.give(task)
        while pool.busy:
            yield from pool.finished()
    finally:
        pool.end()


class _Pool:
    """Workers that wait for a task, and workers that have one."""

    def __init__(self, job: _Job, workers: int) -> None:
        self._job = job
        self.idle: list[_Worker] = []
        self.busy: dict[Connection, _Worker] = {}
        for _ in range(workers):
            self.idle.append(_Worker(job))

    def give(self, task: Any) -> None:
        """Have an idle worker begin with the task."""
        worker = self.idle.pop()
        worker.give(task)
        self.busy[worker.pipe] = worker

    def finished(self) -> list[TaskResult]:
        """Wait until a task or more ends or runs out of time; replace workers that are gone."""
        soonest = min(worker.deadline for worker in self.busy.values())
        ready = wait(list(self.busy), timeout=max(0.0, soonest - time.monotonic()))
        now = time.monotonic()
        ended = [pipe for pipe, w in self.busy.items() if pipe in ready or w.deadline <= now]
        results = []
        for pipe in ended:
            worker = self.busy.pop(pipe)
            results.append(worker.take(pipe in ready))
            self.idle.append(worker if worker.alive else _Worker(self._job))
        return results

    def end(self) -> None:
        """Kill all workers."""
        for worker in [*self.idle, *self.busy.values()]:
            worker.end()


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, job: _Job) -> None:
        self._limit_s = job.limit_s
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()
        self.alive = True
        self.deadline = 0.0
        self._starting_s = START_S
        self._task: Any = None

    def give(self, task: Any) -> None:
        self._task = task
        self.deadline = time.monotonic() + self._limit_s + self._starting_s
        self._starting_s = 0.0
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


def _serve(pipe: Connection, job: _Job) -> None:
    """Be a worker: answer tasks until the other end of the pipe closes."""
    if job.start is not None:
        job.start()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer: tuple[Any, str | None]
        try:
            answer = job.function(task), None
        except job.expected as error:
            answer = None, str(error)
        except KeyboardInterrupt:
            return
        except Exception as error:
            answer = None, f"{type(error).__name__}: {error}"
        pipe.send(answer)
