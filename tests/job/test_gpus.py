"""GPUs that others use: named, left alone, never handed to two jobs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError, NotReady
from pipeline.job.gpus import choose, list_gpus
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
    ("wanted", "visible", "error", "told"),
    [
        ("0,9", None, NotReady, "names GPU 9; this machine has: 0, 1, 2, 3"),
        ("0,0", None, InputError, "names GPU 0 twice"),
        ("a,b", None, InputError, '"a" is neither a number nor a GPU-'),
        ("1", "0", NotReady, 'which CUDA_VISIBLE_DEVICES="0" hides'),
    ],
)
def test_gpus_that_cannot_be_had_are_a_sentence(wanted, visible, error, told) -> None:
    with pytest.raises(error, match=told):
        choose(list_gpus(), wanted, visible)


@pytest.mark.parametrize(("visible", "have"), [("", "none"), ("0", "0")])
def test_too_few_gpus_are_counted(visible: str, have: str) -> None:
    allowed = choose(list_gpus(), None, visible)
    with pytest.raises(NotReady, match=rf"A job needs 2 GPUs, and \d can be used here \({have}\)"):
        gpu_slots(allowed, 2, None)


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
    told = slot.acquire("mine/0")
    assert told == f"GPU 0 is used by pcan trial other/3 (pid {holder.pid})"
    holder.kill()
    holder.communicate()
    assert slot.acquire("mine/0") is None
    slot.release()


def test_a_stranger_who_came_between_two_trials_is_noticed(monkeypatch) -> None:
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
