"""What a first and last step would meet is refused before any job, and the doctor says it too."""

import pickle

import numpy as np
import pytest

from pipeline.data.annotation import joint_form_problem
from pipeline.train.rehearsal import Rehearsal

PLATEAU = 'dict(type="ReduceOnPlateauLR", monitor="loss", rule="less", by_epoch=True)'
REFUSED = {
    "schedule": (
        f"param_scheduler = [{PLATEAU}]",
        'param_scheduler: ReduceOnPlateauLR waits for the metric "loss", which the validation '
        "does not give. It has: acc/RGBPose_1:1_top1, acc/pose_top1, acc/rgb_top1, acc/seen.",
    ),
    "loop": (
        'train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)',
        'train_cfg has type "EpochBasedTrainLoop" and by_epoch=True',
    ),
    "metric": (
        'val_evaluator = dict(names=("a", "rgb_top1", "pose_top1"))',
        'the validation has no metric "acc/RGBPose_1:1_top1"',
    ),
    "sample": (
        "val_dataloader = dict(dataset=dict(length=0))",
        "val_dataloader: its data set is empty",
    ),
}


@pytest.fixture(scope="module")
def refused(module_project):
    """One launch of a config of its own for each fault: nothing of it may begin."""
    project, found = module_project, {}
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 2}}\n")
    file = project.root / "sweeps" / "tiny.yaml"
    text = file.read_text().replace("gates:\n  - {epoch: 1, floor: 0.5, target: 0.6}\n", "")
    for name, (config, _) in REFUSED.items():
        (project.root / "jobs" / "own.py").write_text(f'_base_ = "./tiny.py"\n{config}\n')
        file.write_text(text.replace("tiny.py", "own.py"))
        found[name] = project.launch()
    return project, found


@pytest.mark.parametrize("name", REFUSED)
def test_what_every_start_would_meet_is_refused_before_a_job(refused, name) -> None:
    project, found = refused
    assert found[name].returncode == 2 and f"baseline: {REFUSED[name][1]}" in found[name].stderr, (
        found[name].stderr
    )
    assert not list((project.root / "runs").glob("tiny/*/*"))


def test_the_doctor_says_what_a_launch_would_refuse(project) -> None:
    project.sweep("  baseline: {}\n")
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("tiny.py", "own.py"))
    config = f'_base_ = "./tiny.py"\n{REFUSED["schedule"][0]}\n'
    (project.root / "jobs" / "own.py").write_text(config)
    done = project.run("doctor", "tiny", "--device", "cpu")
    assert "ERROR rehearsal: baseline: param_scheduler: ReduceOnPlateauLR waits" in done.stdout


def clip(**changes):
    joints, score = np.ones((1, 4, 17, 2)), np.ones((1, 4, 17))
    return {"frame_dir": "one", "keypoint": joints, "keypoint_score": score, **changes}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"keypoint_score": None}, None),
        ({"keypoint": np.ones((1, 4, 17, 3))}, "(1, 4, 17, 3), wanted is (people, frames"),
        ({"keypoint": np.ones((4, 17, 2))}, "(4, 17, 2), wanted"),
        ({"keypoint": [[[[0.0, 0.0]]]]}, "one: keypoint is a list, wanted is an array of"),
        ({"keypoint_score": [[[1.0]]]}, "one: keypoint_score is a list"),
        (
            {"keypoint_score": np.ones((1, 4, 17, 1))},
            "keypoint_score is an array of (1, 4, 17, 1)",
        ),
    ],
)
def test_joints_of_another_form_are_named_with_clip_and_shape(changes, told) -> None:
    found = joint_form_problem(clip(**changes))
    assert found is None if told is None else told in str(found)


@pytest.mark.parametrize("kind", ["threed", "listed"])
def test_joints_that_the_chain_cannot_take_are_refused_with_the_clip(project, kind) -> None:
    assert project.run("init", "P").returncode == 0
    home, project.root = project.root, project.root / "P"
    try:
        assert project.run("data", "demo", "data/demo", "--clips", "2").returncode == 0
        file = project.root / "data" / "demo" / "ann.pkl"
        record = pickle.loads(file.read_bytes())
        for one in record["annotations"]:
            joints = one["keypoint"]
            three = np.concatenate([joints, joints[..., :1]], -1)
            one["keypoint"] = three if kind == "threed" else joints.tolist()
        file.write_bytes(pickle.dumps(record))
        for words in (["data", "check", "demo"], ["doctor", "demo", "--device", "cpu"]):
            done = project.run(*words)
            assert done.returncode != 0 and "wave_0" in done.stdout, done.stdout
            assert ("17, 3)" if kind == "threed" else "keypoint is a list") in done.stdout
        done = project.run("sweep", "launch", "demo", "--device", "cpu", "--wandb", "disabled")
        assert done.returncode == 2 and "does not pass the chain" in done.stderr, done.stderr
    finally:
        project.root = home


def test_what_only_a_job_can_know_is_left_to_the_job() -> None:
    class Away(dict):
        """A config whose data cannot be reached now."""

        def __getitem__(self, key):
            raise OSError("the server is away")

    found = Rehearsal().run(Away(), None)
    assert (found["problems"], found["metrics"], found["settled"]) == ([], None, False)
