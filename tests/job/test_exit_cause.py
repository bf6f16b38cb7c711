"""Why a job ended, read from what this start of it left in the logs."""

from pathlib import Path

import pytest

from pipeline.job import exit_cause
from pipeline.job.exit_cause import classify_exit, log_start, most_relevant_log
from pipeline.shared.rundir import RunDir

#: The report of torchrun 2.13 after SIGKILL of rank 1.
KILLED = """E1122 failed (exitcode: -9) local_rank: 1 (pid: 77) of binary: python
pipeline.train FAILED
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_13:00:00
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 77)
  traceback : Signal 9 (SIGKILL) received by PID 77
"""
#: The same when rank 0 failed over it before torchrun looked again.
KILLED_SECOND = """pipeline.train FAILED
Failures:
[1]:
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 77)
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 76)
"""
PEER_IN_OTHER_WORDS = """Traceback (most recent call last):
  File "x.py", line 1, in all_reduce
RuntimeError: Application timeout caused pair closure
"""
PEER = """Traceback (most recent call last):
  File "x.py", line 1, in all_reduce
RuntimeError: [gloo/transport/tcp/pair.cc:538] Read error [127.0.0.1]:1: Connection reset by peer
"""
RAISED = """Traceback (most recent call last):
  File "x.py", line 1, in loss
ValueError: shapes differ
"""


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


@pytest.mark.parametrize(
    ("logs", "cause", "reported"),
    [
        ({"job": KILLED}, "lost_worker", "rank 1 was ended by signal 9 (out of host memory?"),
        ({"job": KILLED, 0: PEER}, "lost_worker", "rank 1 was ended by signal 9"),
        ({"job": KILLED_SECOND, 0: PEER}, "lost_worker", "rank 1 was ended by signal 9"),
        ({"job": KILLED, 0: PEER_IN_OTHER_WORDS}, "lost_worker", "rank 1 was ended by signal 9"),
        ({0: PEER, 1: RAISED}, "code_error", "ValueError: shapes differ"),
        ({}, "lost_worker", "exit code -9) and left no outcome"),
        ({"job": "RuntimeError: EADDRINUSE"}, "port", "port was taken"),
        ({1: "torch.OutOfMemoryError: CUDA out of memory."}, "oom_cuda", "batch size"),
        ({0: "torch.AcceleratorError: CUDA error: out of memory"}, "oom_cuda", "batch size"),
        ({0: "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"}, "oom_cuda", "batch"),
        ({1: "ncclUnhandledCudaError: Cuda failure 2 'out of memory'"}, "oom_cuda", "batch size"),
        (
            {0: "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried"},
            "oom_host",
            "the memory that was asked for",
        ),
        ({1: "MemoryError\n"}, "oom_host", "the memory that was asked for"),
        (
            {1: "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 PiB"},
            "oom_host",
            "smaller batch",
        ),
        ({0: "OSError: [Errno 12] Cannot allocate memory"}, "oom_host", "fewer data workers"),
        ({0: "terminate called after throwing 'std::bad_alloc'"}, "oom_host", "smaller batch"),
        ({0: "OSError: [Errno 28] No space left on device"}, "disk_full", "disk is full"),
        (
            {1: "what():  CUDA error: uncorrectable ECC error encountered"},
            "machine_fault",
            "a GPU has failed",
        ),
        (
            {0: "Traceback (most recent call last):\nOSError: [Errno 107] Transport endpoint"},
            "machine_fault",
            "Transport endpoint: the disk or file system",
        ),
        ({0: "[mov @ 0x1] Input/output error, [Errno 5]\n"}, "lost_worker", "left no outcome"),
        (
            {0: "RuntimeError: DataLoader worker (pid 3) is killed by signal: Killed."},
            "lost_worker",
            "a data worker was killed",
        ),
    ],
)
def test_the_cause_is_named(rundir: RunDir, logs, cause: str, reported: str) -> None:
    for name, text in logs.items():
        file = rundir.job_log if name == "job" else rundir.rank_log(name)
        file.write_text(text)
    outcome = classify_exit(rundir, -9, 2)
    assert (outcome.state, outcome.cause) == ("FAIL", cause), outcome
    assert reported in outcome.reason


def test_a_removed_run_directory_is_no_fault_of_the_recipe(rundir: RunDir) -> None:
    outcome = classify_exit(RunDir(rundir.root / "purged"), 1, 2)
    assert outcome.cause == "machine_fault" and "purged was removed while" in outcome.reason


def test_the_log_of_the_rank_that_raised_is_shown(rundir: RunDir) -> None:
    rundir.rank_log(0).write_text(PEER)
    rundir.rank_log(1).write_text(RAISED)
    assert most_relevant_log(rundir, 2) == rundir.rank_log(1)


def test_an_earlier_start_of_the_job_explains_nothing(rundir: RunDir) -> None:
    rundir.job_log.write_text("EADDRINUSE\n")
    rundir.rank_log(0).write_text(RAISED)
    start = log_start(rundir, 2)
    with rundir.job_log.open("a") as stream:
        stream.write(KILLED)
    assert classify_exit(rundir, 1, 2, start).cause == "lost_worker"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It", "limit"),
        (
            "RuntimeError: unable to write to file </torch_1>: No space left on device (28)",
            "limit",
        ),
        ("ValueError: my own\n", "code_error"),
    ],
)
def test_a_limit_counts_where_it_ended_the_rank_and_not_where_it_was_survived(
    tmp_path, log, cause
) -> None:
    rundir = RunDir(tmp_path)
    survived = "OSError: [Errno 24] Too many open files\n" if cause == "code_error" else ""
    head = "Traceback (most recent call last):\n  File 'x', line 1\n"
    rundir.rank_log(0).write_text(f"{survived}{head}{log}")
    assert cause in str(classify_exit(rundir, 1, 1).cause)


def test_a_kill_for_lack_of_memory_is_reported_as_such(
    rundir: RunDir, tmp_path, monkeypatch
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom 3\noom_kill 1\n")
    monkeypatch.setattr(exit_cause, "_MEMORY_EVENTS", events)
    start = log_start(rundir, 2)
    rundir.job_log.write_text(KILLED)
    assert classify_exit(rundir, 1, 2, start).cause == "lost_worker"
    events.write_text("oom 4\noom_kill 2\n")
    outcome = classify_exit(rundir, 1, 2, start)
    assert outcome.cause == "oom_host" and "ran out of memory" in outcome.reason


def test_a_full_disk_is_known_though_no_log_could_say_so(rundir: RunDir, monkeypatch) -> None:
    rundir.job_log.write_text(KILLED)
    monkeypatch.setattr(exit_cause, "_free_bytes", lambda _: 4096)
    outcome = classify_exit(rundir, 1, 2)
    assert outcome.cause == "disk_full" and "no room for checkpoints" in outcome.reason
