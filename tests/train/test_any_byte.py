"""Files that a job writes, with the disk full or the writer killed at any byte: old or new."""

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.shared.files import append_line, read_json, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.train import checkpoints
from pipeline.train.outcome import classify_error

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes; the kernel refuses the next one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    quiet = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, quiet)


def content(epoch: int) -> dict[str, object]:
    """Return the least that is a checkpoint of ours, some kilobytes of it."""
    made: dict[str, object] = {key: {} for key in checkpoints.KEYS}
    weights = {f"layer{n}": torch.full((40,), float(epoch)) for n in range(2)}
    return {**made, "schema": 1, "state_dict": weights, "measurement": {"epoch": epoch}}


def test_a_disk_full_at_any_byte_of_a_checkpoint_leaves_the_old_one(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    path = checkpoints.path_of(rundir, 1)
    checkpoints.write(path, content(1))
    size = path.stat().st_size
    assert size > 2000
    for limit in range(size):
        with room_for(limit), pytest.raises((OSError, RuntimeError)) as full:
            checkpoints.write(path, content(2))
        cause = classify_error(full.value, "train")
        assert cause is not None and cause.cause == "disk_full", limit
        assert os.listdir(rundir.checkpoints) == ["epoch_1.pth"], f"scraps at byte {limit}"
        if limit % 97 == 0 or limit == size - 1:
            assert checkpoints.read(path)["measurement"] == {"epoch": 1}
    with room_for(size):
        checkpoints.write(path, content(2))
    assert checkpoints.read(path)["measurement"] == {"epoch": 2}


def test_a_checkpoint_cut_at_any_byte_is_never_taken_for_whole(tmp_path: Path) -> None:
    from pipeline.launch.resume_checkpoint import newest_checkpoint
    from pipeline.train.outcome import JobFailure

    rundir = RunDir(tmp_path)
    for epoch in (1, 2):
        checkpoints.write(checkpoints.path_of(rundir, epoch), content(epoch))
    old, new = (checkpoints.path_of(rundir, epoch) for epoch in (1, 2))
    whole = new.read_bytes()
    for size in range(len(whole)):
        new.write_bytes(whole[:size])
        taken = newest_checkpoint(rundir)
        # What still looks whole from outside is refused by the job, which then takes the other.
        if taken != old:
            with pytest.raises(JobFailure):
                checkpoints.read(new)


def test_a_disk_full_at_any_byte_of_a_measurement_loses_no_other(tmp_path: Path) -> None:
    lines = [Measurement(epoch=n, top1=n / 10).to_line() for n in (1, 2, 3)]
    for limit in range(len(lines[1])):
        rundir = RunDir(tmp_path / str(limit))
        rundir.root.mkdir()
        append_line(rundir.measurements, lines[0])
        with room_for(len(lines[0]) + limit), pytest.raises(OSError) as full:
            append_line(rundir.measurements, lines[1])
        assert full.value.errno == errno.EFBIG
        assert [m.epoch for m in rundir.read_measurements()] == [1]
        append_line(rundir.measurements, lines[1])
        append_line(rundir.measurements, lines[2])
        assert [m.epoch for m in rundir.read_measurements()] == [1, 2, 3], limit


def test_a_disk_full_at_any_byte_of_an_outcome_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "outcome.json"
    write_json(file, {"state": None})
    record = {"state": "COMPLETE", "reason": "all epochs are done"}
    for limit in range(len(json.dumps(record, indent=1)) + 1):
        with room_for(limit), pytest.raises(OSError):
            write_json(file, record)
        assert read_json(file) == {"state": None} and os.listdir(tmp_path) == ["outcome.json"]


#: Imports torch once; for each number it is sent it forks a writer that begins after that epoch.
WRITERS = """
import os, sys
from pathlib import Path
import torch
from pipeline.shared.files import append_line
from pipeline.shared.rundir import RunDir
from pipeline.shared.measurement import Measurement
from pipeline.train import checkpoints
rundir = RunDir(sys.argv[1])

def write(epoch):
    made = {key: {} for key in checkpoints.KEYS}
    weights = {"w": torch.full((300_000,), float(epoch))}
    made.update(schema=1, state_dict=weights, measurement={"epoch": epoch})
    checkpoints.write(checkpoints.path_of(rundir, epoch), made)
    append_line(rundir.measurements, Measurement(epoch=epoch, top1=0.5).to_line())
    checkpoints.prune(rundir, rundir.read_measurements())

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        epoch = int(line)
        while True:
            epoch += 1
            write(epoch)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_kill_while_checkpoints_are_written_leaves_a_whole_one(tmp_path: Path) -> None:
    """Twelve real kills, each as soon as a temporary file has grown to another size."""
    rundir, halves = RunDir(tmp_path), 0
    writers = subprocess.Popen(
        [sys.executable, "-c", WRITERS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writers.stdin is not None and writers.stdout is not None
    for kill in range(12):
        checkpoints.forget_unfinished(rundir)
        before = checkpoints.epochs_of(rundir)
        print(max(before, default=0), file=writers.stdin, flush=True)
        writer = int(writers.stdout.readline())
        wait_for_half(rundir, before, kill * 100_000)
        os.kill(writer, signal.SIGKILL)
        assert writers.stdout.readline() == "ended\n"
        halves += bool(list(rundir.checkpoints.glob(".epoch_*")))
        epochs = checkpoints.epochs_of(rundir)
        for epoch in epochs:
            found = checkpoints.read(checkpoints.path_of(rundir, epoch))
            assert found["measurement"] == {"epoch": epoch}
            assert torch.all(found["state_dict"]["w"] == float(epoch))
        measured = [m.epoch for m in rundir.read_measurements()]
        assert max(before, default=0) <= measured[-1] <= epochs[-1] <= measured[-1] + 1
        assert before == [] or epochs[-1] > before[-1]
        if epochs[-1] > measured[-1]:  # what the next start makes up from the checkpoint
            line = Measurement(epoch=epochs[-1], top1=0.5).to_line()
            append_line(rundir.measurements, line)
    writers.communicate()
    assert halves >= 3, "most kills are to hit a write"


def wait_for_half(rundir: RunDir, before: list[int], size: int) -> None:
    """Wait for a new checkpoint, then for a temporary file of at least `size` bytes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if checkpoints.epochs_of(rundir)[-1:] != before[-1:]:
            for half in rundir.checkpoints.glob(".epoch_*"):
                with contextlib.suppress(OSError):
                    if size <= half.stat().st_size < 1_200_000:
                        return
    raise AssertionError("the writer wrote nothing")
