"""A job that cannot go on says why, where only the job can know.

Faults of one rank of two: `tests/launch/test_faults.py` and `test_launch.py`.
"""

import os
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch

import tiny_run
from pipeline.train.outcome import classify_error

ONE = {"nproc": 1}


CAUSES = {
    "oom_cuda": ({"model.fault": {"kind": "oom"}}, {}, "Tried to allocate 30.00 GiB"),
    "nan": ({"model.fault": {"kind": "nan_weights", "step": 8}}, {}, "not finite"),
    "no_metric": ({}, {"metric": "acc/top1"}, "It has: acc/RGBPose_1:1_top1, acc/pose_top1"),
    "bad_config": ({"model.type": "NoSuchModel"}, {}, "NoSuchModel"),
    "bad_data": ({"train_dataloader.dataset.bad_index": 3}, {}, "clip_3.avi has 0 frames"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_cause_is_named(cause, tmp_path):
    overrides, spec, words = CAUSES[cause]
    rundir = tiny_run.make_run(tmp_path / cause, overrides, **{**ONE, **spec})
    assert tiny_run.run_alone(rundir) == 1, tiny_run.logs(rundir)
    ended = tiny_run.outcome(rundir)
    assert (ended["state"], ended["cause"]) == ("FAIL", cause), ended
    assert words in ended["reason"]
    assert ended["epochs"] == 0 and not list(rundir.checkpoints.glob("*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("stage", ["config", "training"])
def test_a_model_that_asks_for_a_gpu_on_the_cpu_is_said_in_words(stage):
    with pytest.raises((AssertionError, RuntimeError)) as asked:
        torch.nn.Linear(2, 2).cuda()
    failure = classify_error(asked.value, stage)
    assert failure is not None and failure.cause == "bad_config"
    assert "this job runs on the CPU" in failure.reason and "Leave the device to" in failure.reason


GONE = "[Errno 2] No such file or directory: '/mnt/gone/clip_3.avi'"
FAULTS = {
    "input/output error": (OSError(5, "Input/output error", "/data/clip_3.avi"), "mounted"),
    "of a loader's process": (
        OSError("Caught OSError in DataLoader worker process 0.\nOSError: [Errno 116] Stale file"),
        "mounted",
    ),
    "a disk that is not mounted": (FileNotFoundError(GONE), "the folder /mnt/gone was there"),
    "a file of torch": (RuntimeError("PytorchStreamWriter failed writing file data/3"), "quota"),
    "a broken GPU": (
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        "nvidia-smi",
    ),
    "a held GPU": (
        RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        "one process only",
    ),
    "no network": (URLError(OSError(-2, "Name or service not known")), "download them once"),
    "a driver": (RuntimeError("CUDA driver version is insufficient for CUDA runtime"), "restart"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_machine_is_not_one_of_data_or_code(fault):
    error, reported = FAULTS[fault]
    failure = classify_error(error, "train")
    assert failure is not None and failure.cause == "machine_fault" and reported in failure.reason


@pytest.mark.parametrize("text", [GONE.replace("/mnt/gone", "/tmp"), "clip_3 has no frames"])
def test_one_missing_file_is_a_fault_of_the_data(text):
    failure = classify_error(
        OSError(f"Caught OSError in DataLoader worker process 0.\n{text}"), "train"
    )
    assert failure is not None and failure.cause == "bad_data"


BAD_DATA = {
    "in a worker": {
        "train_dataloader.dataset.bad_index": 3,
        "train_dataloader.num_workers": 1,
    },
    "missing folder": {"train_dataloader.dataset.root": "/no/such/folder"},
}


@pytest.mark.parametrize("where", BAD_DATA)
def test_bad_data_is_distinguished_from_a_bad_config(where, tmp_path):
    rundir = tiny_run.make_run(tmp_path / "data", BAD_DATA[where], **ONE)
    assert tiny_run.run_alone(rundir) == 1
    ended = tiny_run.outcome(rundir)
    assert ended["cause"] == "bad_data", ended
    assert "clip_3.avi" in ended["reason"] or "/no/such/folder" in ended["reason"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch canary",)


def test_an_annotation_that_would_run_code_is_refused_by_the_job_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = {"frame_dir": "a", "label": 0, "keypoint": np.ones((1, 2, 17, 2), np.float16)}
    for name, content in (("plain", [clip]), ("evil", [clip, Evil()])):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(content))
        overrides = {
            "train_dataloader.dataset.annotation": str(tmp_path / f"{name}.pkl"),
            "train_cfg.max_epochs": 1,
        }
        rundir = tiny_run.make_run(tmp_path / name, overrides, **ONE)
        assert tiny_run.run_alone(rundir) == (name == "evil"), tiny_run.logs(rundir)
    ended = tiny_run.outcome(rundir)
    assert ended["cause"] == "bad_data" and "it calls posix.system" in ended["reason"], ended
    assert not list(tmp_path.rglob("canary"))


def test_a_sound_checkpoint_of_another_config_or_model_is_refused_and_kept(tmp_path):
    rundir = tiny_run.make_run(tmp_path / "run", {"train_cfg.max_epochs": 1}, **ONE)
    assert tiny_run.run_alone(rundir) == 0, tiny_run.logs(rundir)
    own = rundir.read_spec().config_hash
    change = {"attempt": 2, "resume": "checkpoints/epoch_1.pth", "config_hash": "abc"}
    tiny_run.change_spec(rundir, **change)
    assert tiny_run.run_alone(rundir) == 1
    ended = tiny_run.outcome(rundir)
    assert (ended["cause"], ended["attempt"]) == ("checkpoint_refused", 2)
    assert "written with another config" in ended["reason"]
    tiny_run.change_spec(rundir, attempt=3, config_hash=own)
    config = rundir.config
    config.write_text(config.read_text().replace("width=16", "width=8"))
    assert tiny_run.run_alone(rundir) == 1
    ended = tiny_run.outcome(rundir)
    assert ended["cause"] == "checkpoint_refused" and "size mismatch" in ended["reason"]
    assert (rundir.checkpoints / "epoch_1.pth").is_file()
