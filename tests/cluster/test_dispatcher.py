"""What a dispatch believes of the jobs that its scheduler shows."""

import dataclasses
import types
from typing import Any

from pipeline.cluster.dispatcher import Dispatcher
from pipeline.cluster.executor import ClusterJob, JobPhase, command_digest
from pipeline.launch.context import Schedule
from pipeline.launch.reporters import LineReporter

RUNNING = ClusterJob(id="1", phase=JobPhase.RUNNING, state="RUNNING")
FAILED = ClusterJob(id="1", phase=JobPhase.ENDED, state="FAILED", exit_code=1, exited=True)


def made(said: list[str]) -> Any:
    executor: Any = types.SimpleNamespace(title="SLURM", log=lambda job: "1.log")
    sweep = types.SimpleNamespace(job=types.SimpleNamespace(retry={}))
    context: Any = types.SimpleNamespace(sweep=sweep)
    stops: Any = types.SimpleNamespace(requested=False)
    found: Any = Dispatcher(executor, context, stops, ["pcan"], {}, 4, LineReporter(said.append))
    found._jobs = {"1": RUNNING}
    return found


def test_a_job_shown_as_failed_while_it_is_requeued_is_not_replaced() -> None:
    said: list[str] = []
    dispatch = made(said)
    for _ in range(2):  # each requeue again: what was seen before proves nothing
        dispatch._update_jobs([FAILED], Schedule(requests=()))
        assert [job.id for job in dispatch._active()] == ["1"] and said == []
        dispatch._seen_ended["1"] -= 100
        dispatch._update_jobs([RUNNING], Schedule(requests=()))
    assert said == []


def test_a_job_that_stays_ended_is_believed_a_little_later() -> None:
    said: list[str] = []
    dispatch = made(said)
    dispatch._update_jobs([FAILED], Schedule(requests=()))
    dispatch._seen_ended["1"] -= 100
    dispatch._update_jobs([FAILED], Schedule(requests=()))
    assert dispatch._active() == [] and said == ["SLURM job 1 ended: FAILED (exit code 1)."]


def test_a_job_whose_submission_seemed_to_fail_is_taken_over() -> None:
    said: list[str] = []
    dispatch = made(said)
    ours = dataclasses.replace(RUNNING, id="2", digest=command_digest(["pcan"]))
    other = dataclasses.replace(RUNNING, id="3", digest="of another command")
    ended = dataclasses.replace(ours, id="4", phase=JobPhase.ENDED)
    for _ in range(2):
        dispatch._adopt([RUNNING, ours, other, ended])
    assert [job.id for job in dispatch._active()] == ["1", "2"]
    assert said == ["SLURM job 2 is there already, and taken over."]
