"""A driver that does not answer ends no running trial."""

from pathlib import Path

import pytest

from pipeline.errors import NotReady
from pipeline.job.gpus import Gpu
from pipeline.job.slots import Slot
from pipeline.launch import slot_pool
from pipeline.launch.reporters import LineReporter
from pipeline.launch.slot_pool import SlotPool


def test_a_driver_that_fails_after_a_trial_is_reported_not_thrown(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PCAN_LOCKS", str(tmp_path))
    answers: list[object] = [[]]

    def look() -> list[Gpu]:
        if not answers:
            raise NotReady("nvidia-smi does not answer. Check the driver: nvidia-smi")
        return answers.pop()  # type: ignore[return-value]

    said: list[str] = []
    gpu = Gpu(index=0, uuid="GPU-aa", name="H100", total_mib=100, used_mib=0)
    monkeypatch.setattr(slot_pool, "POLL_S", 0.0)
    found = SlotPool([Slot(number=0, gpus=(gpu,))], False, LineReporter(said.append), look)
    slot = found.acquire("baseline/0")
    assert slot is not None
    found.release(slot, "baseline/0")
    found.poll()
    assert found.draining and said == []
    monkeypatch.setattr(slot_pool, "GPU_DRAIN_S", 0.0)
    found.poll()
    assert not found.draining and "does not answer" in said[0]


@pytest.mark.parametrize("recovers", [True, False])
def test_a_driver_that_fails_for_a_moment_between_two_trials_ends_no_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recovers: bool
) -> None:
    monkeypatch.setenv("PCAN_LOCKS", str(tmp_path))
    answers = iter([False, False, recovers])

    def look() -> list[Gpu]:
        if next(answers):
            return [gpu]
        raise NotReady("nvidia-smi failed: Driver/library version mismatch.")

    said: list[str] = []
    gpu = Gpu(index=0, uuid="GPU-aa", name="H100", total_mib=100, used_mib=0)
    for name in ("POLL_S", "DRIVER_RETRY_S"):
        monkeypatch.setattr(slot_pool, name, 0.0)
    found = SlotPool([Slot(number=0, gpus=(gpu,))], False, LineReporter(said.append), look)
    assert found.acquire("baseline/0") is None and found.acquire("baseline/0") is None
    assert "version mismatch" in found.blocked_by and len(said) == 1
    monkeypatch.setattr(slot_pool, "DRIVER_PATIENCE_S", 0.0)
    if recovers:
        assert found.acquire("baseline/0") is not None and found.blocked_by == ""
    else:
        with pytest.raises(NotReady, match="version mismatch"):
            found.acquire("baseline/0")
