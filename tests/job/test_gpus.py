"""GPUs that others use: named, left alone, never handed to two jobs."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError, NotReady
from pipeline.job.gpus import choose, list_gpus, read_gpus
from pipeline.job.slots import gpu_slots

#: Answers as the driver's tool does; pid 1 works on GPU 1.
SMI = """#!/bin/sh
case "$1" in
--query-gpu*)
  echo "0, GPU-aa, H100, 49152, 10"
  echo "1, GPU-bb, H100, 49152, ${USED:-30822}"
  echo "2, GPU-cc, H100, 49152, 10"
  echo "3, GPU-dd, H100, 49152, 10" ;;
*) test -n "$FREE" || echo "GPU-bb, 1, /usr/bin/python3, 30720" ;;
esac
"""


@pytest.fixture(autouse=True)
def smi(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PCAN_NVIDIA_SMI", str(program))
    monkeypatch.setenv("PCAN_LOCKS", str(tmp_path / "locks"))


def test_a_gpu_in_use_names_who_uses_it_and_how_much() -> None:
    busy = [gpu for gpu in list_gpus() if gpu.in_use]
    assert [gpu.index for gpu in busy] == [1]
    assert (
        busy[0].describe_usage()
        == "GPU 1 has 30.1 of 48.0 GiB in use by pid 1 (python3, root, 30.0 GiB)"
    )


def test_memory_without_a_process_counts_as_use(monkeypatch) -> None:
    monkeypatch.setenv("FREE", "1")
    assert [gpu.index for gpu in list_gpus() if gpu.in_use] == [1]
    monkeypatch.setenv("USED", "10")
    assert not any(gpu.in_use for gpu in list_gpus())


@pytest.mark.parametrize(
    ("wanted", "visible", "error", "reported"),
    [
        ("0,9", None, NotReady, "names GPU 9; this machine has: 0, 1, 2, 3"),
        ("0,0", None, InputError, "names GPU 0 twice"),
        ("a,b", None, InputError, '"a" is neither a number nor a GPU-'),
        ("1", "0", NotReady, 'which CUDA_VISIBLE_DEVICES="0" hides'),
    ],
)
def test_gpus_that_cannot_be_had_are_a_sentence(wanted, visible, error, reported) -> None:
    with pytest.raises(error, match=reported):
        choose(list_gpus(), wanted, visible)


def test_too_few_gpus_are_counted() -> None:
    allowed = choose(list_gpus(), None, "0")
    with pytest.raises(NotReady, match=r"A job needs 2 GPUs, and 1 can be used here \(0\)"):
        gpu_slots(allowed, 2, None)


@pytest.mark.parametrize(
    "visible", ["", " ", ",", "-1", "NoDevFiles", "nodevfiles", "none", "void", "-1,0"]
)
def test_words_that_give_no_gpu_say_where_to_get_one(visible: str) -> None:
    with pytest.raises(NotReady, match=r"No GPU is given to this shell.*--gres.*--device cpu"):
        choose(list_gpus(), None, visible)


def test_cuda_reads_its_list_up_to_the_first_none() -> None:
    assert [gpu.index for gpu in choose(list_gpus(), None, "2,0,-1,1")] == [2, 0]


@pytest.mark.parametrize(
    "slice_", ["MIG-11111111-2222-3333-4444-555555555555", "MIG-GPU-aa/1/0", "0,MIG-x", "MIG-"]
)
def test_a_slice_of_a_gpu_is_refused_as_one(slice_: str) -> None:
    for given in ((None, slice_), (slice_, None)):
        with pytest.raises(
            NotReady, match=r"slice of a GPU \(MIG\), and slices are not supported"
        ):
            choose(list_gpus(), *given)


@pytest.mark.parametrize(
    ("wanted", "error", "reported"),
    [
        ("", InputError, "names no GPU"),
        ("²", InputError, '"²" is neither a number'),
        ("٣", InputError, "neither a number"),
        ("0:1", InputError, "neither a number"),
        ("GPU-", InputError, "the ids of 4 GPUs begin with GPU-"),
        ("all", InputError, "List them: nvidia-smi -L"),
        ("99999999999999999999", NotReady, "this machine has: 0, 1, 2, 3"),
    ],
)
def test_odd_names_of_gpus_are_sentences(wanted: str, error, reported: str) -> None:
    with pytest.raises(error, match=reported):
        choose(list_gpus(), wanted, None)


def answers(tmp_path: Path, gpus: bytes, users: bytes = b"", code: int = 0) -> None:
    """Let nvidia-smi print these bytes."""
    (tmp_path / "gpus").write_bytes(gpus)
    (tmp_path / "users").write_bytes(users)
    (tmp_path / "smi").write_text(
        f'#!/bin/sh\ncase "$1" in --query-gpu*) cat "{tmp_path}/gpus";; '
        f'*) cat "{tmp_path}/users";; esac\nexit {code}\n'
    )


ONE = b"0, GPU-aa, NVIDIA A100, 40960, 5\n"


@pytest.mark.parametrize(
    ("row", "reported"),
    [
        (b"[N/A], [Not Found], [N/A]", "does not name ([Not Found])"),
        (b"[Insufficient Permissions], [Insufficient Permissions], [N/A]", "Permissions])"),
        (b"[Unknown Error], [Unknown Error], [Unknown Error]", "does not name"),
        (b"4711, python, worker, 812", "pid 4711 (python, worker, "),
        (b'4711, "python, 812', 'pid 4711 ("python, '),
        (b"4711, py\xff\xe4thon, [N/A]", "pid 4711 (py"),
        (b"4711, /opt/my env/python train.py, 812", "pid 4711 (python train.py, "),
        (b"99999999999999999999999, x, 812", "(x, unknown user, 0.8 GiB)"),
        (b"", "does not name"),
        (b"[N/A]", "does not name"),
    ],
)
def test_a_process_in_any_words_counts_as_use(tmp_path: Path, row: bytes, reported: str) -> None:
    answers(tmp_path, ONE, b"GPU-aa, " + row + b"\r\n")
    (gpu,) = list_gpus()
    assert gpu.in_use and reported in gpu.describe_usage()


@pytest.mark.parametrize("figure", [b"[N/A]", b"[Insufficient Permissions]", b"ERR!", b"", b"-5"])
def test_memory_that_is_not_known_counts_as_use_unless_the_gpu_is_named(
    tmp_path: Path, figure: bytes
) -> None:
    answers(tmp_path, b"0, GPU-aa, NVIDIA GB10, [N/A], " + figure + b"\n")
    (gpu,) = list_gpus()
    assert gpu.in_use and "--gpus 0 takes it all the same" in gpu.describe_usage()
    (named,) = choose([gpu], "0", None)
    assert not named.in_use
    assert gpu_slots([named], 1, None)[0].foreign_usage() is None
    answers(tmp_path, b"0, GPU-aa, GB10, [N/A], [N/A]\n", b"GPU-aa, 7, train, [N/A]\n")
    assert "in use by pid 7 (train" in (gpu_slots([named], 1, None)[0].foreign_usage() or "")


def test_what_is_no_row_is_repeated_and_a_row_without_a_gpu_blocks_them_all(
    tmp_path: Path,
) -> None:
    answers(tmp_path, ONE + b"WARNING: infoROM is corrupted at gpu 0000:3B:00.0\n")
    listing = read_gpus()
    assert not listing.gpus[0].in_use and "infoROM is corrupted" in (listing.remark or "")
    answers(tmp_path, ONE + b"1, GPU-bb, A, B, 4, 5\n", b"[N/A], 12, python, [N/A]\n")
    listing = read_gpus()
    assert [g.in_use for g in listing.gpus] == [True, True] and listing.gpus[1].name == "A, B"
    answers(tmp_path, ONE, b"No running processes found\nGPU-hidden, 1, x, 5\n")
    assert read_gpus().remark is None and not list_gpus()[0].in_use


LOST = b"Unable to determine the device handle for GPU1: 0000:08:00.0: Unknown Error\n"


@pytest.mark.parametrize("apps", [b"", LOST, b"GPU-aa, 12, python, 9\n" + LOST])
def test_a_lost_gpu_takes_no_other_one_along(tmp_path: Path, apps: bytes) -> None:
    answers(tmp_path, ONE + LOST, apps, code=15)
    (gpu,) = read_gpus().gpus
    assert gpu.uuid == "GPU-aa" and gpu.in_use == apps.startswith(b"GPU-aa")
    assert "Unable to determine the device handle" in (read_gpus().remark or "")


@pytest.mark.parametrize(
    ("text", "code", "reported"),
    [
        (b"NVIDIA-SMI has failed because it couldn't communicate", 9, "couldn't communicate"),
        (b"Failed to initialize NVML: Driver/library version mismatch", 18, "mismatch"),
        (b"Unable to determine the device handle: GPU is lost.", 15, "GPU is lost. Check"),
        (b"\xff\xfe", 255, "failed"),
        (b"", 1, "exit code 1"),
    ],
)
def test_a_driver_that_fails_is_a_sentence(
    tmp_path: Path, text: bytes, code, reported: str
) -> None:
    answers(tmp_path, text, code=code)
    with pytest.raises(NotReady, match=r"--device cpu") as caught:
        list_gpus()
    assert reported in str(caught.value)


@pytest.mark.parametrize(("text", "code"), [(b"No devices were found\n", 6), (b"", 0)])
def test_a_driver_without_devices_lists_none(tmp_path: Path, text: bytes, code: int) -> None:
    answers(tmp_path, text, code=code)
    assert list_gpus() == []


def test_a_second_launch_cannot_hold_the_same_gpu_until_the_first_is_gone() -> None:
    (slot,) = gpu_slots([gpu for gpu in list_gpus() if not gpu.in_use][:2], 2, 1)
    program = (
        "import sys, time\nfrom pipeline.job.gpus import list_gpus\n"
        "from pipeline.job.slots import gpu_slots\n"
        "slot, = gpu_slots([g for g in list_gpus() if not g.in_use][:2], 2, 1)\n"
        "print(slot.acquire('other/3'), flush=True)\ntime.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "None\n"
    reported = slot.acquire("mine/0")
    assert reported == f"GPU 0 is used by pcan trial other/3 (pid {holder.pid})"
    holder.kill()
    holder.communicate()
    assert slot.acquire("mine/0") is None
    slot.release()


def test_another_user_who_came_between_two_trials_is_noticed(monkeypatch) -> None:
    monkeypatch.setenv("FREE", "1")
    monkeypatch.setenv("USED", "10")
    slots = gpu_slots(list_gpus(), 2, None)
    assert slots[0].foreign_usage() is None
    monkeypatch.delenv("FREE")
    assert (
        slots[0].foreign_usage()
        == "GPU 1 has 0.0 of 48.0 GiB in use by pid 1 (python3, root, 30.0 GiB)"
    )
    assert slots[1].foreign_usage() is None


def test_a_planted_link_in_the_lock_folder_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "locks").mkdir()
    os.symlink(victim, tmp_path / "locks" / "GPU-aa.lock")
    slot = gpu_slots(list_gpus()[:1], 1, 1)[0]
    with pytest.raises((OSError, NotReady)):
        slot.acquire("mine/0")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EIO])
def test_a_lock_folder_without_locks_is_not_taken_for_a_busy_gpu(monkeypatch, code: int) -> None:
    def refuse(*_) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    slot = gpu_slots(list_gpus()[:1], 1, 1)[0]
    with pytest.raises(NotReady, match=rf"{os.strerror(code)}.*export PCAN_LOCKS=FOLDER"):
        slot.acquire("mine/0")


def test_a_lock_folder_of_another_user_that_is_closed_is_a_sentence(
    tmp_path: Path, monkeypatch
) -> None:
    def refuse(file, flags, mode=0o777) -> int:
        raise (
            PermissionError(13, "Permission denied")
            if flags & os.O_CREAT
            else FileNotFoundError(2, "gone")
        )

    slot = gpu_slots(list_gpus()[:1], 1, 1)[0]
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(
        NotReady, match=r"cannot be locked in .*locks: GPU-\w+.lock cannot be opened"
    ):
        slot.acquire("mine/0")
