"""Jobs on machines with a long temporary folder, few open files, little shared memory."""

import os
import subprocess

import pytest

WORKERS = '_base_ = "./tiny.py"\ntrain_dataloader = dict(num_workers=2, persistent_workers=True)\n'
SMALL_SHM = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"'
WIDE = """
model = dict(features=200000, width=2)
train_dataloader = dict(dataset=dict(features=200000))
val_dataloader = dict(dataset=dict(features=200000))
"""
#: A sample that a loader process cannot send; its rank waits for it without an end.
UNSENT = """
from mmengine.registry import DATASETS
from tiny_parts import TinyDataset

class Batch:
    def __reduce__(self):
        raise OSError("this cannot be sent")

@DATASETS.register_module()
class Unsent(TinyDataset):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "extra": Batch()}
"""


@pytest.fixture
def loading(project):
    """A project whose training loads by two processes a rank."""
    project.ranks = 1
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 1}}\n")
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("tiny.py", "own.py"))
    (project.root / "jobs" / "own.py").write_text(WORKERS)
    return project


def test_a_long_temporary_folder_and_few_open_files_stop_no_job(loading, monkeypatch) -> None:
    folder = loading.root / ("t" * 100)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    words = loading.argv(*loading.launch_words())
    done = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh", *words],
        cwd=loading.root,
        env=loading.env(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert loading.epochs("baseline/0") == [1], done.stderr + done.stdout
    assert "sockets of data workers need a folder of at most 73; jobs use /tmp" in done.stderr
    assert not list(folder.glob("pcan-job-*"))


@pytest.mark.slow
def test_batches_larger_than_shared_memory_are_refused_before_a_job(loading) -> None:
    config = loading.root / "jobs" / "own.py"
    config.write_text(
        WORKERS + WIDE.replace("train_dataloader = dict(", "train_dataloader.update(")
    )
    words = loading.argv(*loading.launch_words())
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", SMALL_SHM, "sh", *words],
        cwd=loading.root,
        env=loading.env(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.stderr.startswith(("mount:", "unshare:")):
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[-80:]}")
    assert done.returncode == 5 and "6.4 MB each in shared memory" in done.stderr, done.stderr
    assert not loading.folder("baseline/0").exists()


@pytest.mark.slow
def test_what_a_loader_could_not_send_is_said_within_a_minute_and_ends_the_job(loading) -> None:
    (loading.root / "jobs" / "unsent.py").write_text(UNSENT)
    (loading.root / "jobs" / "own.py").write_text(
        f"{WORKERS}custom_imports = dict(imports=['unsent'], allow_failed_imports=False)\n"
        "train_dataloader.update(dataset=dict(type='Unsent'), "
        "collate_fn=dict(type='pseudo_collate'))\n"
    )
    done = loading.run(*loading.launch_words(), timeout=600)
    said = "could not send its batch: OSError: this cannot be sent (rank"
    assert done.returncode == 3 and said in done.stdout + done.stderr, done.stderr
    assert "(stall)" in done.stdout + done.stderr and "PCAN_STALL_S" not in os.environ
