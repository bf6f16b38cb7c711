"""What a first and last step would meet is refused before any job, and the doctor says it too."""

import json
import pickle

import numpy as np
import pytest

from pipeline.data.annotation import joint_form_problem
from pipeline.train.rehearsal import Rehearsal
from tiny_project import Project

REFUSED = {
    "schedule": (
        "param_scheduler: [{type: ReduceOnPlateauLR, monitor: loss, rule: less, by_epoch: true}]",
        'param_scheduler: ReduceOnPlateauLR waits for the metric "loss", which the validation '
        "does not give. It has: acc/RGBPose_1:1_top1, acc/pose_top1, acc/rgb_top1, acc/seen.",
    ),
    "loop": (
        "train_cfg: {type: EpochBasedTrainLoop, by_epoch: true, max_epochs: 2}",
        'train_cfg has type "EpochBasedTrainLoop" and by_epoch=True',
    ),
    "metric": (
        "val_evaluator: {type: TinyMetric, names: [a, rgb_top1, pose_top1]}",
        'the validation has no metric "acc/RGBPose_1:1_top1"',
    ),
    "sample": ("val_dataloader.dataset.length: 0", "val_dataloader: its data set is empty"),
}


@pytest.fixture(scope="module")
def refused(module_project):
    """A launch of a variant for each fault, and what the doctor says: nothing of it may begin."""
    project = module_project
    variants = (
        f"  {name}: {{plan: {name}, like: baseline, set: {{{change}}}}}\n"
        for name, (change, _) in REFUSED.items()
    )
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 2}}\n" + "".join(variants))
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(
        file.read_text().replace("gates:\n  - {epoch: 1, floor: 0.5, target: 0.6}\n", "")
    )
    launch = project.launch("--policy", "all")
    return project, launch, project.call("doctor", "tiny", "--device", "cpu")


@pytest.mark.parametrize("name", REFUSED)
def test_what_every_start_would_meet_is_refused_before_a_job(refused, name) -> None:
    project, launch, _ = refused
    assert launch.returncode == 2 and f"{name}: {REFUSED[name][1]}" in launch.stderr, launch.stderr
    assert not list((project.root / "runs").glob("tiny/*/*"))


@pytest.mark.parametrize("name", REFUSED)
def test_the_doctor_says_what_a_launch_would_refuse(refused, name) -> None:
    _, _, doctor = refused
    found = [line for line in doctor.stdout.splitlines() if f"{name}: {REFUSED[name][1]}" in line]
    assert len(found) == 1 and found[0].startswith("ERROR "), doctor.stdout


def test_a_plan_of_variants_that_a_launch_refuses_does_not_exit_0(refused) -> None:
    plan = refused[0].call("sweep", "plan", "tiny")
    assert f"A launch refuses this: loop: {REFUSED['loop'][1]}" in plan.stdout
    assert plan.returncode == 2


def test_a_plan_whose_config_never_validates_is_shown_and_does_not_exit_0(project) -> None:
    project.ahead = True  # the sweep file alone has the contradiction
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 2, train_cfg.val_begin: 3}}\n")
    plan = project.call("sweep", "plan", "tiny")
    assert plan.returncode == 2 and "baseline validates after none of its 2 epochs" in plan.stdout
    assert json.loads(project.call("sweep", "plan", "tiny", "--json").stdout)["problems"]


def clip(**changes):
    joints, score = np.ones((1, 4, 17, 2)), np.ones((1, 4, 17))
    return {"frame_dir": "one", "keypoint": joints, "keypoint_score": score, **changes}


@pytest.mark.parametrize(
    ("changes", "reported"),
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
def test_joints_of_another_form_are_named_with_clip_and_shape(changes, reported) -> None:
    found = joint_form_problem(clip(**changes))
    assert found is None if reported is None else reported in str(found)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A project with a drawn data set of two clips each."""
    project = Project(tmp_path_factory.mktemp("demo"))
    assert project.call("init", "P").returncode == 0
    project.root = project.root / "P"
    assert project.call("data", "demo", "data/demo", "--clips", "2").returncode == 0
    return project, (project.root / "data" / "demo" / "ann.pkl").read_bytes()


LAUNCH = ["sweep", "launch", "demo", "--device", "cpu", "--wandb", "disabled"]


@pytest.mark.parametrize(
    ("form", "named", "words", "refusal"),
    [
        (lambda j: j.tolist(), "keypoint is a list", ["doctor", "demo"], "keypoint is a list"),
        (
            lambda j: np.concatenate([j, j[..., :1]], -1),
            "17, 3)",
            LAUNCH,
            "does not pass the chain",
        ),
    ],
    ids=["doctor", "launch"],
)
def test_joints_that_the_chain_cannot_take_are_refused_with_the_clip(
    demo, form, named, words, refusal
) -> None:
    project, sound = demo
    record = pickle.loads(sound)
    for one in record["annotations"]:
        one["keypoint"] = form(one["keypoint"])
    (project.root / "data" / "demo" / "ann.pkl").write_bytes(pickle.dumps(record))
    checked = project.call("data", "check", "demo")
    assert checked.returncode != 0 and "wave_0" in checked.stdout and named in checked.stdout
    done = project.call(*words)
    assert done.returncode != 0 and refusal in done.stdout + done.stderr, done


def test_what_only_a_job_can_know_is_left_to_the_job() -> None:
    class Away(dict):
        """A config whose data cannot be reached now."""

        def __getitem__(self, key):
            raise OSError("the server is away")

    found = Rehearsal().run(Away(), None)
    assert (found["problems"], found["metrics"], found["settled"]) == ([], None, False)
