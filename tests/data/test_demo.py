"""`pcan data demo`: the same parameters give the same files, whole or not at all."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli.data import command
from pipeline.data.demo import describe, make_demo
from pipeline.data.motions import ACTIONS, mirror, perform
from pipeline.errors import InputError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "set"
    assert make_demo(folder, clips=3)
    return folder


def test_the_same_parameters_give_the_same_bytes(demo, tmp_path):
    make_demo(tmp_path / "again", clips=3)
    assert contents(tmp_path / "again") == contents(demo)


def test_another_seed_gives_other_clips(demo, tmp_path):
    make_demo(tmp_path / "other", clips=3, seed=1)
    assert contents(tmp_path / "other")["ann.pkl"] != contents(demo)["ann.pkl"]


def test_annotations_agree_with_the_videos(demo):
    import cv2

    content = pickle.loads((demo / "ann.pkl").read_bytes())
    assert len(content["annotations"]) == 3 * len(ACTIONS)
    for clip in content["annotations"]:
        video = cv2.VideoCapture(str(demo / "videos" / f"{clip['frame_dir']}.mp4"))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == clip["total_frames"]
        assert clip["keypoint"].shape == (1, clip["total_frames"], 17, 2)
        assert clip["keypoint"].dtype == np.float16


def test_splits_are_disjoint_and_have_every_class(demo):
    content = pickle.loads((demo / "ann.pkl").read_bytes())
    train, val = set(content["split"]["train"]), set(content["split"]["val"])
    assert not train & val
    labels = {clip["frame_dir"]: clip["label"] for clip in content["annotations"]}
    assert {labels[name] for name in val} == set(range(len(ACTIONS)))


def test_a_finished_set_is_left_alone(demo):
    before = (demo / "ann.pkl").stat().st_mtime_ns
    assert not make_demo(demo, clips=3)
    assert (demo / "ann.pkl").stat().st_mtime_ns == before


def test_a_set_with_other_parameters_is_refused(demo):
    with pytest.raises(InputError, match="other parameters"):
        make_demo(demo, clips=4)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds other files"):
        make_demo(tmp_path, clips=2)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_set_leaves_nothing_behind(tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "set", clips=2, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_one_clip_an_action_is_refused():
    with pytest.raises(InputError, match="--clips is 1"):
        describe(clips=1, seed=0)


def test_reversed_actions_differ_only_in_time():
    down, up = (a for a in ACTIONS if a.name in ("bend_down", "come_up"))
    ahead = perform(down, 40, np.random.default_rng(3))
    back = perform(up, 40, np.random.default_rng(3))
    # The swaying goes on; what the movement does to the head does not.
    assert np.allclose(ahead[:, 0, 1], back[::-1, 0, 1])


def test_mirror_twice_is_the_same_person():
    joints = perform(ACTIONS[0], 5, np.random.default_rng(0))
    assert np.array_equal(mirror(mirror(joints)), joints)


def test_command_says_what_it_did(tmp_path):
    run = CliRunner().invoke(command, ["demo", str(tmp_path / "set"), "--clips", "2"])
    assert run.exit_code == 0
    assert run.stdout == f"{tmp_path / 'set'}: made\n"
    assert json.loads((tmp_path / "set" / "meta.json").read_text())["clips"] == 2
