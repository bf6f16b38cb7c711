"""A training that cannot fit is refused before its job, with the batch that would: measured."""

import pytest

from pipeline.errors import NotReady
from pipeline.job import resolve
from pipeline.job.gpus import Gpu, GpuProcess
from pipeline.job.slots import Slot
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.preflight.memory_check import (
    DeviceMemory,
    device_memory,
    free_ram,
    held_memory,
    memory_findings,
)
from pipeline.preflight.model_probe import DataPlacement, placed_texts, probe_models, store_data
from pipeline.preflight.plan_facts import resolve_and_check

BATCH = 1024
VARIANT = (
    "  baseline: {set: {model.type: TinyVideoModel, model.width: 256, "
    f"train_dataloader.batch_size: {BATCH}, train_cfg.max_epochs: 1}}}}\n"
)
PLACED = DataPlacement(root=None, sets={})
ROOM = 64 << 30


@pytest.fixture(scope="module")
def measured(module_project):
    """A project, its resolved sweep, and what the doctor measured of it."""
    module_project.sweep(VARIANT)
    project = Project(module_project.root)
    sweep = read_sweep(project.root / "sweeps" / "tiny.yaml", project.root)
    configs = resolve_and_check(sweep, project)
    texts = placed_texts(sweep, project, configs.configs, PLACED)
    asked = DeviceMemory(free=ROOM, place="x").question(always=True)
    data = store_data(sweep, project)
    _, found = resolve.rehearse_configs(sweep, project, configs.configs, texts, data, memory=asked)
    return sweep, project, configs, found["baseline"].memory


def launch(measured, free):
    """Do what a launch does before its first job, on a device with `free` bytes left."""
    sweep, project, configs, _ = measured
    said: list[str] = []
    memory = DeviceMemory(free=free, place="this machine")
    probe_models(sweep, project, configs, ["baseline"], said.append, PLACED, 1, memory)
    return said


def test_memory_is_measured_at_growing_batches_and_grows_with_them(measured):
    memory = measured[3]
    assert memory["sizes"] == [BATCH // 4, BATCH // 2]
    activations = 256 * (8 * 3 + 3) * 4  # bytes of a sample that a backward pass keeps, at least
    assert activations / 2 < memory["per_sample"] < 20 * activations
    assert memory["fixed"] > 200 << 20  # a process with torch
    assert memory["peak"] == pytest.approx(
        memory["fixed"] + BATCH * memory["per_sample"], rel=0.02
    )


def test_a_launch_uses_what_was_measured_and_refuses_what_cannot_fit(measured, monkeypatch):
    monkeypatch.setattr(resolve, "run_tool", None)  # no child is started again
    memory = measured[3]
    assert launch(measured, ROOM) == []
    with pytest.raises(NotReady) as refused:
        launch(measured, memory["fixed"] + memory["per_sample"] * BATCH // 2)
    text = str(refused.value)
    assert f"baseline: a training step (train_dataloader.batch_size {BATCH}) takes" in text
    fits = int(text.split("A batch of ")[1].split()[0])
    assert 1 <= fits < BATCH // 2
    assert "set train_dataloader.batch_size. The lr stays 0.01 then (auto_scale_lr is off)" in text


def test_what_hardly_fits_is_said(measured):
    (said,) = launch(measured, int(measured[3]["peak"] * 1.05))
    assert "a training step" in said and "fits" not in said


FACTS = {"lr": 0.01, "batch_size": 64}
MEASURED = {
    "device": "cuda", "batch": 64, "peak": 9 << 30, "fixed": 1 << 30, "per_sample": 128 << 20,
    "sizes": [16, 32], "val_batch": 256, "val_peak": 10 << 30,
}  # fmt: skip
GPU = DeviceMemory(free=8 << 30, place="GPU 3", gpu="GPU-3", kind="X")


def test_the_lr_of_a_smaller_batch_is_named_where_it_follows_the_batch():
    facts = {**FACTS, "auto_scale_lr": {"enable": True, "base_batch_size": 16}}
    training, validation = memory_findings(MEASURED, facts, GPU, ranks=2)
    assert training.sentence == (
        "a training step (train_dataloader.batch_size 64) takes 9.0 GiB (1.0 GiB and 128 MiB a "
        "sample, from smaller batches) of 8.0 GiB that GPU 3 has free. A batch of 50 fits: set "
        "train_dataloader.batch_size. auto_scale_lr is on (base_batch_size 16): the lr becomes "
        "0.0625 instead of 0.08."
    )
    assert "Set val_dataloader.batch_size lower" in validation.sentence


def test_a_model_that_fits_with_no_batch_is_said_so():
    small = DeviceMemory(free=1 << 30, place="GPU 0", gpu="GPU-0")
    assert "No batch fits" in memory_findings(MEASURED, FACTS, small, 1)[0].sentence


def gpu(index, used, users=()):
    return Gpu(
        index=index, uuid=f"GPU-{index}", name="X", total_mib=1000, used_mib=used, users=users
    )


def test_a_gpu_in_use_is_left_alone_and_the_fullest_free_one_counts():
    other = GpuProcess(pid=1, name="python", user="me", used_mib=900)
    slots = [Slot(number=0, gpus=(gpu(0, 5), gpu(1, 300))), Slot(0, (gpu(2, 900, (other,)),))]
    memory = device_memory(slots, 2)
    assert memory is not None and (memory.gpu, memory.free) == ("GPU-1", 700 << 20)
    assert device_memory(slots[1:], 1) is None


def test_a_gpu_that_another_launch_has_locked_is_not_measured_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PCAN_LOCKS", str(tmp_path))
    holder, mine = (Slot(number=0, gpus=(gpu(0, 5),)) for _ in range(2))
    assert holder.acquire("baseline/0") is None
    with held_memory([mine], 1) as memory:
        assert memory is None
    holder.release()
    with held_memory([mine], 1) as memory:
        assert memory is not None and holder.acquire("baseline/0") is not None


def test_the_tightest_control_group_counts_with_its_page_cache(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder, limit in ((tmp_path, "max"), (inner, "1000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("900\n")
        (folder / "memory.stat").write_text("anon 100\ninactive_file 300\n")
    assert free_ram([inner, tmp_path]) == (400, f"the control group {inner}")
    free, place = free_ram([])
    assert free is not None and free > 0 and place == "this machine"
