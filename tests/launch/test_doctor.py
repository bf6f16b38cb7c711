"""`pcan doctor`: everything that is wrong, at once, in order, with what to do."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.doctor.finding import Patient, error, run_check
from pipeline.doctor.plan_checks import joint_findings, label_findings
from pipeline.errors import InputError
from pipeline.launch.ready import check_ready, disk_need, folder_trouble
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep

VARIANT = "  baseline: {set: {train_cfg.max_epochs: 2}}\n"


def test_a_sound_project_is_ready_and_a_broken_one_is_told_all_at_once(project) -> None:
    project.sweep(VARIANT)
    well = project.run("doctor", "tiny", "--device", "cpu", "--json")
    record = json.loads(well.stdout)
    assert (well.returncode, record["ready"]) == (0, True), record
    assert not [f for f in record["findings"] if f["severity"] == "error"]

    file = project.root / "sweeps" / "tiny.yaml"
    text = file.read_text()
    file.write_text(text.replace("name: tiny", "name: tiny\nwarm_start: {checkpoint: w.pth}"))
    (project.root / "runs").mkdir(exist_ok=True)
    (project.root / "runs" / "pcan.db").write_text("no database at all, only text")
    ill = project.run("doctor", "tiny", "--device", "cuda", "--json")
    found = json.loads(ill.stdout)["findings"]
    assert ill.returncode == 5 and "Traceback" not in ill.stderr
    wrong = [f for f in found if f["severity"] == "error"]
    assert [f["check"] for f in wrong] == ["storage", "gpus", "weights"]
    assert "is not an SQLite database" in wrong[0]["message"]
    assert "The checkpoint to start from is missing: w.pth" in wrong[2]["message"]
    assert [f["severity"] for f in found] == sorted(
        (f["severity"] for f in found), key=["error", "warning", "note"].index
    )


def test_no_secret_of_the_environment_is_in_what_the_doctor_says(project, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-" + "a" * 33)
    monkeypatch.setenv("MY_TOKEN", "canary-token")
    project.sweep(VARIANT)
    url = "postgresql+psycopg://me:canary-password@127.0.0.1:1/none"
    done = project.run("doctor", "tiny", "--device", "cpu", "--storage", url)
    assert done.returncode == 5
    assert "canary" not in done.stdout + done.stderr


def clip(name: str, label: object, joints: object = 1.0) -> dict:
    return {"frame_dir": name, "label": label, "keypoint": np.full((1, 2, 3, 2), joints)}


def test_labels_that_the_head_has_no_class_for_are_named() -> None:
    clips = [clip("a", 0), clip("b", 60), clip("c", -1), clip("d", "x"), clip("e", 59)]
    (finding,) = label_findings(clips, 60, "val")
    assert (
        "3 of 5 clips have a label outside 0...59: b (label 60), c (label -1)" in finding.message
    )


def test_joints_that_are_missing_or_nan_are_named() -> None:
    clips = [clip("a", 0), clip("b", 0, np.nan), {"frame_dir": "c", "label": 0}]
    missing, broken = joint_findings(clips, "train")
    assert missing.severity == "error" and "1 clips have no joints: c" in missing.message
    assert broken.severity == "warning" and "NaN: b" in broken.message


def test_a_check_that_fails_is_a_finding_and_stops_no_other(tmp_path: Path) -> None:
    def fails(_: Patient):
        yield error("x", "first")
        raise InputError("second")

    patient = Patient(project=Project(tmp_path), sweep=None)
    assert [f.message for f in run_check("x", fails, patient)] == ["first", "second"]


@pytest.fixture
def warm(tmp_path: Path):
    (tmp_path / "s.yaml").write_text(
        "name: w\nconfig: c.py\nobjective: {metric: m}\nwarm_start: {checkpoint: w.pth}\n"
        "variants: {v0: {set: {lr: 1}}}\nladder: {start: v0}\n"
    )
    return read_sweep(tmp_path / "s.yaml", tmp_path), Project(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>", "is a web page"),
    ],
)
def test_what_is_no_checkpoint_is_refused_before_any_job(warm, content, told) -> None:
    sweep, project = warm
    (project.root / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=told):
        check_ready(sweep, project, ["v0"])


def test_the_room_for_checkpoints_is_reckoned_from_the_weights(warm) -> None:
    sweep, project = warm
    assert "not known yet" in disk_need(sweep, project, 5)[1]
    with open(project.root / "w.pth", "wb") as stream:
        stream.truncate(200_000_000)
    need, why = disk_need(sweep, project, 5)
    assert need == 16 * 600_000_000 and "5 trials of 3 checkpoints of up to 600 MB" in why


def test_a_file_in_the_place_of_the_runs_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    assert "is a file" in (folder_trouble(tmp_path / "runs") or "")
    assert folder_trouble(tmp_path) is None
    assert os.listdir(tmp_path) == ["runs"]
