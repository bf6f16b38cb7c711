"""What a config says about its data, asked in a child process as the commands do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from pipeline.data.demo import make_demo
from pipeline.data.epoch_bound import LoaderLoad, loading_minutes, sentence
from pipeline.data.prepare import plan, prepare
from pipeline.data.sources import of_config
from pipeline.shared.loader_workers import suggest_workers
from pipeline.train.data_chain import ChainError, chain_of, facts, shows_fixed_frames
from pipeline.train.tools.data_speed import moved

ROOT = Path(__file__).parents[2]


def ask(tool, **question):
    command = [sys.executable, "-m", f"pipeline.train.tools.{tool}"]
    done = subprocess.run(
        command, input=json.dumps(question), cwd=ROOT, capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)


def loaders_of(name, data_root=None):
    loaders = facts(Config.fromfile(str(ROOT / "configs" / name), import_custom_modules=False))
    for loader in loaders if data_root else ():
        for key in ("ann_file", "videos"):
            loader[key] = moved(loader[key], "data/demo", data_root)
    return loaders


def test_the_shipped_configs_can_be_prepared():
    demo, real, plan_ = (
        of_config(loaders_of(f"{name}.py"), ROOT)
        for name in ("pcan_demo", "utd_mhad8", "pcan_ntu60")
    )
    # The demo tests on what it validates on; the plan's test of ten clips stays on the videos.
    assert [(s.kind, s.split) for s in demo] == [("train", "train"), ("val", "val")]
    assert [s.split for s in real] == ["dev_train", "dev_val", "xsub_val"]
    assert [s.split for s in plan_] == ["xsub_train", "xsub_val"]


def test_a_data_root_moves_annotation_and_videos():
    train = loaders_of("pcan_demo.py", "/disk/demo")[0]
    assert (train["ann_file"], train["videos"]) == ("/disk/demo/ann.pkl", "/disk/demo/videos")
    assert moved("elsewhere/ann.pkl", "data/demo", "/disk") == "elsewhere/ann.pkl"
    assert moved("data/demo2/ann.pkl", "data/demo", "/disk") == "data/demo2/ann.pkl"


def test_a_config_that_cannot_be_loaded_is_reported():
    assert "cannot be loaded" in ask("data_facts", configs={"a": "a = "})["error"]


def test_a_chain_of_another_form_is_reported():
    with pytest.raises(ChainError, match="begins with DecordInit, Resize"):
        chain_of([{"type": "DecordInit"}, {"type": "Resize"}])


@pytest.mark.parametrize(
    ("sampler", "fixed"),
    [
        ({"test_mode": True}, True),
        ({"test_mode": True, "num_clips": 10}, False),
        ({"test_mode": True, "seed": 1}, False),
        ({}, False),
    ],
)
def test_only_one_seeded_clip_is_fixed(sampler, fixed):
    assert shows_fixed_frames([{"type": "MMUniformSampleFrames", **sampler}]) is fixed


def test_speed_is_measured_stage_by_stage(tmp_path):
    make_demo(tmp_path / "demo", clips=2)
    loaders = loaders_of("pcan_demo.py", str(tmp_path / "demo"))
    prepare(plan(tmp_path / "store", of_config(loaders, ROOT), "fine"), workers=1, max_bad=0)
    answer = ask(
        "data_speed",
        config=str(ROOT / "configs" / "pcan_demo.py"),
        data_root=str(tmp_path / "demo"),
        store=str(tmp_path / "store"),
        samples=3,
    )
    assert answer["clips"] == 8
    assert "MMDecode" in answer["chains"]["video"]["stages"]
    assert {"PackDecode", "ShipJoints"} <= set(answer["chains"]["prepared"]["stages"])


def test_the_bound_is_the_slower_of_loaders_and_training_process():
    # The plan's set on 2 GPUs: decoding 540p by 2 x 16 loaders, maps sent through the queue.
    job = LoaderLoad(ranks=2, workers=16, cores=32, epoch_minutes=15)
    loaders, main = loading_minutes(40_091, 90, job, joints=False)
    assert loaders == pytest.approx(1.88, abs=0.01)
    assert main == pytest.approx(2.17, abs=0.01)
    text = sentence(40_091, 90, job, joints=False)
    assert "2.2 min in the training process" in text
    assert "loading does not bound the epoch" in text
    assert "loading bounds the epoch" in sentence(
        40_091, 518, LoaderLoad(2, 2, 4, 15), joints=False
    )


@pytest.mark.parametrize(
    ("cores", "slots", "prepared", "workers"),
    [(32, 1, False, 15), (32, 1, True, 4), (32, 2, True, 4), (16, 2, False, 3), (2, 1, True, 0)],
)
def test_workers_leave_cores_to_the_training_processes(cores, slots, prepared, workers):
    assert suggest_workers(cores, slots, ranks=2, prepared=prepared) == workers
