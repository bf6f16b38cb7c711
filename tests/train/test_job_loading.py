"""How many processes load samples, and how many samples are validated at a time."""

import types
import warnings
from pathlib import Path

import pytest

from pipeline.shared.spec import TrialSpec  # noqa: E402
from pipeline.train.fit_loaders import (
    PackMisses,
    fit_loaders,
    fit_workers,
    loading_time,
    validation_batch,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmengine.config import Config

    import pipeline.train.transforms  # noqa: F401

ROOT = Path(__file__).parents[2]

VAL = [
    {"type": "MMUniformSampleFrames", "clip_len": {"RGB": 8, "Pose": 32}, "test_mode": True},
    {"type": "MMDecode"},
    {"type": "MMCompact"},
    {"type": "Resize", "scale": (256, 256), "keep_ratio": False},
]


def config(workers=8, val_batch=1, pipeline=VAL, kind="MMRecognizer3D"):
    def loader(size, steps):
        return {"batch_size": size, "num_workers": workers, "dataset": {"pipeline": steps}}

    return {
        "model": {"type": kind},
        "train_dataloader": loader(20, []),
        "val_dataloader": loader(val_batch, pipeline),
    }


def spec(store="prepared", **loading):
    return TrialSpec(data={"store": store}, loading=loading, nproc=2)


@pytest.mark.parametrize(
    ("had", "wanted", "count"), [(8, 4, 4), (2, 4, 2), (8, 0, 1), (1, 0, 1), (0, 4, 0)]
)
def test_never_more_processes_than_the_config_has_and_never_none(had, wanted, count):
    found = config(workers=had)
    fit_workers(found, wanted)
    assert found["train_dataloader"]["num_workers"] == count
    assert found["val_dataloader"]["num_workers"] == count


def test_what_is_named_stays():
    found = config()
    fit_loaders(found, spec(named=["train_dataloader.num_workers", "val_dataloader.batch_size"]))
    assert found["train_dataloader"]["num_workers"] == 8
    assert found["val_dataloader"]["num_workers"] < 8
    assert found["val_dataloader"]["batch_size"] == 1


def test_jobs_that_share_the_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(32)))
    for store, slots, count in (("video", 1, 15), ("video", 2, 7), ("prepared", 2, 4)):
        found = config(workers=16)
        reported = fit_loaders(found, spec(store, slots=slots))
        assert found["train_dataloader"]["num_workers"] == count
        assert f"train_dataloader: num_workers {count} in place of the config's 16." in reported


def test_a_specification_that_says_nothing_changes_nothing():
    found, silent = config(), TrialSpec(nproc=2)
    assert fit_loaders(found, silent) == [] and found == config()


def test_samples_of_one_shape_are_validated_in_batches():
    assert validation_batch(config()) == 8
    found = config()
    fit_loaders(found, spec())
    assert found["val_dataloader"]["batch_size"] == 8


def test_the_plans_own_config_is_fitted_in_place(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    found = Config.fromfile(ROOT / "configs" / "pcan_ntu60.py", import_custom_modules=False)
    fit_loaders(found, spec(slots=1))
    assert [found[f"{n}_dataloader"].num_workers for n in ("train", "val", "test")] == [4, 4, 4]
    assert found.val_dataloader.batch_size == 8


@pytest.mark.parametrize(
    "other",
    [
        {"val_batch": 4},
        {"kind": "TheirRecognizer"},
        {"pipeline": [{**VAL[0], "num_clips": 10}, *VAL[1:]]},
        {"pipeline": [*VAL[:3], {**VAL[3], "keep_ratio": True}]},
        {"pipeline": VAL[:3]},
        {"pipeline": []},
    ],
)
def test_others_are_validated_as_their_config_says(other):
    assert validation_batch(config(**other)) is None


def test_samples_from_video_are_counted_by_epoch():
    total = types.SimpleNamespace(total=0)
    step = types.SimpleNamespace(fallbacks=total)
    data = types.SimpleNamespace(pipeline=types.SimpleNamespace(transforms=[step]))
    repeated = types.SimpleNamespace(dataset=types.SimpleNamespace(dataset=data))
    runner = types.SimpleNamespace(
        train_dataloader=repeated, val_dataloader=types.SimpleNamespace(dataset=object())
    )
    counter = PackMisses()
    counts = []
    for total.total in (0, 5, 5, 7):
        counts.append(counter.since_last(runner))
    assert counts == [0, 5, 0, 2]


def test_without_a_timer_nothing_is_said_of_waiting():
    hub = types.SimpleNamespace(log_scalars={})
    runner = types.SimpleNamespace(message_hub=hub, train_dataloader=[1, 2])
    assert loading_time(runner) is None
