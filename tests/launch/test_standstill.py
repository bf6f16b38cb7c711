"""What stands in the log of a rank that stands still is reported while it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.launch.standstill import STANDING_S, StandstillReader, standstill_messages
from pipeline.shared.limit_messages import met_limit

#: A process of the standard library's own queue that cannot send: the reader waits for ever.
UNSENT = """
import multiprocessing
class Batch:
    def __reduce__(self):
        raise OSError({text!r})
queue = multiprocessing.Queue()
queue.put(Batch())
queue.close()
queue.join_thread()
"""
HELD = 'Traceback (most recent call last):\n  File "x.py", line 1, in run\n    go()\n'


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("AF_UNIX path too long", "too long a path for sockets"),
        ("[Errno 24] Too many open files", "may not open more files"),
        ("unable to write to file </torch_9_1_0>: No space left on device (28)", "/dev/shm"),
        ("cannot pickle 'module' object", None),
    ],
)
def test_a_batch_that_a_loader_cannot_send_ends_the_job_with_its_error(
    tmp_path: Path, text: str, remedy: str | None
) -> None:
    log = tmp_path / "rank1.log"
    with open(log, "w") as stream:
        subprocess.run([sys.executable, "-c", UNSENT.format(text=text)], stderr=stream, check=True)
    (message,) = standstill_messages({log: 0})
    assert message.final and message.text == f"OSError: {text}"
    assert (message.remedy is None) if remedy is None else remedy in str(message.remedy)
    assert message.sentence.startswith("a loader process could not send its batch: OSError")


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        (f"{HELD}RuntimeError: can't start new thread\n", "RuntimeError: can't start new thread"),
        (f"[rank1]: {HELD}[rank1]: my.own.Fault: no\n", "my.own.Fault: no"),
        ("[E1128 ProcessGroupGloo] connect timed out\n", "connect timed out"),
        ("terminate called after throwing an instance of 'x'\n", "terminate called"),
        ("OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8\n", "pthread_create"),
        ("2026/01/01 00:00:00 - mmengine - INFO - Epoch(train) [1][4/9] error: 0.4\n", None),
        ("UserWarning: cannot find it\n  warnings.warn(\n", None),
        ("loading 400 clips\n", None),
    ],
)
def test_errors_are_distinguished_from_a_training_s_own_report(
    tmp_path: Path, line, reported
) -> None:
    log = tmp_path / "rank0.log"
    log.write_text(f"{HELD}ValueError: of an earlier start\n{line}")
    found = standstill_messages({log: log.stat().st_size - len(line)})
    assert not any(message.final for message in found)
    assert found == [] if reported is None else reported in found[0].text


def test_an_error_is_reported_once_and_only_while_a_job_stands_longer_than_usual(tmp_path) -> None:
    log = tmp_path / "rank0.log"
    log.write_text("CUDA error: unspecified launch failure\n")
    reader = StandstillReader({log: 0})
    assert reader.new_messages(STANDING_S - 1, 0) == []
    assert reader.new_messages(STANDING_S + 1, STANDING_S) == []
    assert len(reader.new_messages(STANDING_S + 1, 1)) == 1
    assert reader.new_messages(STANDING_S + 60, 1) == []
    log.write_text("CUDA error: unspecified launch failure\nNCCL: connection refused\n")
    assert [one.text for one in reader.new_messages(99, 1)] == ["NCCL: connection refused"]


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is possible",
        "RuntimeError: unable to mmap 80 bytes from file </torch_1_2_3>: Cannot allocate memory",
        "RuntimeError: received 0 items of ancdata",
        "BlockingIOError: [Errno 11] Resource temporarily unavailable",
        "RuntimeError: Unable to find address for: eth7",
        "FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp']",
    ],
)
def test_messages_of_met_limits_are_known(text: str) -> None:
    assert met_limit(text) is not None and met_limit("the disk is full") is None
