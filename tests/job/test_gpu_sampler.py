"""What GPUs do is sampled beside a launch that never waits for the driver."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fake_gpus
from pipeline.job import gpu_sampler
from pipeline.job.gpu_sampler import GpuProcessSample, GpuSample, GpuSampler, summarize
from pipeline.job.process import belongs_to
from pipeline.launch.record_reporters import others


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    smi, _ = fake_gpus.write(tmp_path, sys.executable)
    monkeypatch.setenv("PCAN_NVIDIA_SMI", str(smi))
    return tmp_path


def polled(sampler: GpuSampler, until) -> None:
    deadline = time.monotonic() + 120
    while not until():
        assert time.monotonic() < deadline
        sampler.poll(["GPU-1"])
        time.sleep(0.02)


def doing(driver: Path, **fields: object) -> None:
    (driver / "doing.json").write_text(json.dumps({"1": fields}))


def test_a_sample_has_what_the_driver_says_of_the_gpus_asked_for(driver: Path) -> None:
    doing(driver, **{"utilization.gpu": 83, "clocks_throttle_reasons.active": "0x44"})
    sampler = GpuSampler(interval_s=0.0)
    polled(sampler, lambda: sampler.samples)
    assert list(sampler.samples) == ["GPU-1"]
    sample = sampler.samples["GPU-1"][0]
    assert (sample.use, sample.used_mib, sample.watts, sample.celsius) == (0.83, 3, 70.5, 34)
    assert sample.heat is True and sample.supply is False


def test_a_field_that_this_driver_does_not_know_is_left_out(driver: Path) -> None:
    (driver / "doing.json").write_text(
        json.dumps({str(n): {"clocks_throttle_reasons.active": None} for n in range(4)})
    )
    sampler = GpuSampler(interval_s=0.0)
    polled(sampler, lambda: sampler.samples)
    assert sampler.samples["GPU-1"][0].heat is None
    assert sampler.samples["GPU-1"][0].watts == 70.5


@pytest.mark.parametrize("cell", ["[N/A]", "[Not Supported]", "N/A", "", "[Unknown Error]", "nan"])
def test_a_value_that_the_driver_does_not_have_is_unknown(driver: Path, cell: str) -> None:
    doing(driver, **{"utilization.gpu": cell, "power.draw": cell})
    sampler = GpuSampler(interval_s=0.0)
    polled(sampler, lambda: sampler.samples)
    sample = sampler.samples["GPU-1"][0]
    assert sample.use is None and sample.watts is None and sample.celsius == 34


def test_processes_on_a_gpu_are_asked_for_now_and_then(driver: Path) -> None:
    fake_gpus.use(driver, os.getpid(), ["GPU-1"], name="train")
    sampler = GpuSampler(interval_s=0.0)
    polled(sampler, lambda: sampler.processes)
    assert sampler.processes["GPU-1"][0].pid == os.getpid()


def test_a_driver_that_hangs_is_asked_once_and_ended(driver: Path, monkeypatch) -> None:
    starts = driver / "starts"
    hanging = driver / "hanging"
    hanging.write_text(f"#!/bin/sh\necho x >> {starts}\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PCAN_NVIDIA_SMI", str(hanging))
    sampler = GpuSampler(interval_s=0.0)
    polled(sampler, starts.exists)
    child = sampler._child
    for _ in range(50):
        sampler.poll(["GPU-1"])
    assert sampler._child is child and starts.read_text() == "x\n"
    monkeypatch.setattr(gpu_sampler, "ANSWER_S", 0.0)
    polled(sampler, lambda: sampler._child is not child)
    sampler.close()
    assert child is not None and child.returncode == -9 and sampler.samples == {}


@pytest.mark.parametrize("program", ["/no/such/program", "/dev/null"])
def test_a_driver_that_cannot_be_run_gives_no_samples(monkeypatch, program: str) -> None:
    monkeypatch.setenv("PCAN_NVIDIA_SMI", program)
    sampler = GpuSampler(interval_s=0.0)
    for _ in range(3):
        sampler.poll(["GPU-1"])
    assert sampler.samples == {}


def test_an_epoch_is_summed_up_as_by_hand() -> None:
    samples = [
        GpuSample(at=0.0, use=0.02, used_mib=100, watts=100, celsius=40, heat=False, supply=False),
        GpuSample(at=10.0, use=0.98, used_mib=300, watts=200, celsius=50, heat=True, supply=False),
        GpuSample(at=100.0, use=0.50, used_mib=200, watts=300, celsius=45, heat=True, supply=None),
    ]
    assert summarize(samples) == {
        "samples": 3,
        "use": 0.5,
        "idle": 0.3333,
        "peak_mib": 300,
        "wh": round((100 * 10 + 200 * 30) / 3600, 3),  # a gap of 90 s counts for 30
        "celsius": 50,
        "heat": 0.6667,
        "supply": 0.0,
    }
    assert summarize([])["use"] is None and summarize(samples[:1])["wh"] is None


def test_other_processes_on_a_gpu_are_distinguished_from_the_trials_own() -> None:
    def at(pid: int, moment: float = 1.0) -> GpuProcessSample:
        return GpuProcessSample(at=moment, pid=pid, name="python")

    own = subprocess.Popen(["sleep", "600"], env={**os.environ, "PCAN_TRIAL": "token"})
    gone = 2**22 + 1  # above the largest pid there can be
    try:
        deadline = time.monotonic() + 60  # until the child has its own environment
        while not belongs_to(own.pid, "token") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert others([at(own.pid), at(gone)], "token") == []
        assert others([at(own.pid), at(os.getpid())], "token") == [f"pid {os.getpid()} (python)"]
    finally:
        own.kill()
        os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
    # Ended and not yet waited for: its marker is gone.
    assert others([at(own.pid), at(os.getpid())], "token") == [f"pid {os.getpid()} (python)"]
    own.wait()
    # In a container the pids are the host's: one of each moment's is a rank.
    assert others([at(gone, 1.0), at(gone + 1, 1.0), at(gone, 2.0)], "token") == []
    assert others([at(gone), at(gone + 1)], "token") == [f"pid {gone + 1} (python)"]
