"""`pcan doctor`: everything that is wrong, at once, in order, with what to do."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError, NotReady
from pipeline.job.oldest_versions import refuse_old_environment
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import JobSettings
from pipeline.preflight import machine_checks
from pipeline.preflight.finding import CheckContext, error, run_check
from pipeline.preflight.launch_checks import check_ready, disk_need, unwritable_reason
from pipeline.preflight.plan_checks import joint_findings, label_findings

ROOT = Path(__file__).parents[2]
VARIANT = "  baseline: {set: {train_cfg.max_epochs: 2}}\n"


def test_a_sound_project_is_ready_and_a_broken_one_is_reported_all_at_once(project) -> None:
    project.sweep(VARIANT)
    well = project.call("doctor", "tiny", "--device", "cpu", "--json")
    record = json.loads(well.stdout)
    assert (well.returncode, record["ready"]) == (0, True), record
    assert not [f for f in record["findings"] if f["severity"] == "error"]

    file = project.root / "sweeps" / "tiny.yaml"
    text = file.read_text()
    text = text.replace("job: {", "job: {speed: {amp: fp16}, ")
    file.write_text(text.replace("name: tiny", "name: tiny\nwarm_start: {checkpoint: w.pth}"))
    (project.root / "runs").mkdir(exist_ok=True)
    (project.root / "runs" / "pcan.db").write_text("no database at all, only text")
    ill = project.call("doctor", "tiny", "--device", "cuda", "--json")
    found = json.loads(ill.stdout)["findings"]
    assert ill.returncode == 5 and "Traceback" not in ill.stderr
    wrong = [f for f in found if f["severity"] == "error"]
    assert [f["check"] for f in wrong] == ["storage", "gpus", "weights"]
    assert "is not an SQLite database" in wrong[0]["message"]
    assert "The checkpoint to start from is missing: w.pth" in wrong[2]["message"]
    assert [f["check"] for f in found if "amp is fp16, which needs a GPU" in f["message"]]
    assert [f["severity"] for f in found] == sorted(
        (f["severity"] for f in found), key=["error", "warning", "note"].index
    )


def test_no_secret_of_the_environment_is_in_what_the_doctor_says(project, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-" + "a" * 33)
    monkeypatch.setenv("MY_TOKEN", "canary-token")
    project.sweep(VARIANT)
    url = "postgresql+psycopg://me:canary-password@127.0.0.1:1/none"
    done = project.call("doctor", "tiny", "--device", "cpu", "--storage", url)
    assert done.returncode == 5
    assert "canary" not in done.stdout + done.stderr


def clip(name: str, label: object, joints: object = 50.0) -> dict:
    size = {"img_shape": (90, 160), "total_frames": 2}
    return {"frame_dir": name, "label": label, "keypoint": np.full((1, 2, 3, 2), joints), **size}


def test_labels_that_the_head_has_no_class_for_are_named() -> None:
    clips = [clip("a", 0), clip("b", 60), clip("c", -1), clip("d", "x"), clip("e", 59)]
    (finding,) = label_findings(clips, 60, "val")
    assert (
        "3 of 5 clips have a label outside 0...59: b (label 60), c (label -1)" in finding.message
    )


def test_joints_that_are_missing_or_nan_are_named() -> None:
    clips = [clip("a", 0), clip("b", 0, np.nan), {**clip("c", 0), "keypoint": None}]
    missing, broken = joint_findings(clips, "train")
    assert missing.severity == "error" and "1 clip has no joints: c" in missing.message
    assert broken.severity == "warning" and "NaN: b" in broken.message


def test_a_check_that_fails_is_a_finding_and_stops_no_other(tmp_path: Path) -> None:
    def fails(_: CheckContext):
        yield error("x", "first")
        raise InputError("second")

    context = CheckContext(project=Project(tmp_path), sweep=None)
    assert [f.message for f in run_check("x", fails, context)] == ["first", "second"]


@pytest.fixture
def warm(tmp_path: Path):
    (tmp_path / "s.yaml").write_text(
        "name: w\nconfig: c.py\nobjective: {metric: m}\nwarm_start: {checkpoint: w.pth}\n"
        "variants: {v0: {set: {lr: 1}}}\nladder: {start: v0}\n"
    )
    return read_sweep(tmp_path / "s.yaml", tmp_path), Project(tmp_path)


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>", "is a web page"),
    ],
)
def test_what_is_no_checkpoint_is_refused_before_any_job(warm, content, reported) -> None:
    sweep, project = warm
    (project.root / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=reported):
        check_ready(sweep, project, ["v0"])


def test_starting_weights_other_than_those_named_are_refused(warm) -> None:
    sweep, project = warm
    file = project.root / "s.yaml"
    (project.root / "w.pth").write_bytes(b"PK\x03\x04 weights")
    digest = hashlib.sha256(b"PK\x03\x04 weights").hexdigest()
    for named, reported in (
        (digest, None),
        ("0" * 64, "w.pth is another file than the sweep names"),
    ):
        line = f"warm_start: {{checkpoint: w.pth, sha256: '{named}'}}"
        file.write_text(file.read_text().replace("warm_start: {checkpoint: w.pth}", line))
        checked = read_sweep(file, project.root)
        if reported is None:
            check_ready(checked, project, ["v0"])
            file.write_text(file.read_text().replace(line, "warm_start: {checkpoint: w.pth}"))
        else:
            with pytest.raises(InputError, match=reported):
                check_ready(checked, project, ["v0"])
    file.write_text(file.read_text().replace("0" * 64, "abc"))
    with pytest.raises(InputError, match='"abc" is not a SHA-256 digest'):
        read_sweep(file, project.root)


@pytest.mark.parametrize("name", ["PCAN_STALL_S", "PCAN_STORAGE_PATIENCE_S"])
@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan"])
def test_a_waiting_time_that_is_no_number_is_reported_before_any_job(
    warm, monkeypatch, name, value
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f'{name} is "{value}". Write seconds'):
        check_ready(*warm, ["v0"])


def interpreter(folder: Path, python: list[int], torch: str | None) -> str:
    """Write a program that answers as an interpreter of these releases would."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'python': python, 'torch': torch})}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("python", "torch", "reported"),
    [
        ([3, 7, 16], "1.13.1", "is Python 3.7.16; jobs need Python 3.8 or newer"),
        ([2, 7, 18], None, "is Python 2.7.18; jobs need Python 3.8"),
        ([3, 8, 18], "1.12.1+cu113", r"has torch 1.12.1\+cu113; jobs need torch 1.13 or newer"),
        ([3, 8, 18], "1.13.0", None),
        ([3, 11, 7], "2.13.0", None),
        ([3, 10, 1], None, None),
    ],
)
def test_an_interpreter_older_than_jobs_need_is_refused(tmp_path, python, torch, reported) -> None:
    job = JobSettings(python=interpreter(tmp_path, python, torch))
    if reported is None:
        refuse_old_environment(job, tmp_path)
        return
    with pytest.raises(NotReady, match=reported):
        refuse_old_environment(job, tmp_path)


def test_doctor_and_launch_refuse_an_old_interpreter_before_it_runs_anything(warm) -> None:
    sweep, project = warm
    job = JobSettings(python=interpreter(project.root, [3, 6, 15], "1.10.0"))
    old = sweep.model_copy(update={"job": job})
    with pytest.raises(NotReady, match="is Python 3.6.15"):
        check_ready(old, project, ["v0"])
    context = CheckContext(project=project, sweep=old)
    [finding] = run_check("environment", machine_checks.check_environment, context)
    assert (finding.severity, "jobs need Python 3.8" in finding.message) == ("error", True)


def test_a_torch_newer_than_any_that_was_tried_is_warned_of(tmp_path: Path, monkeypatch) -> None:
    context = CheckContext(project=Project(tmp_path), sweep=None)
    for version, reported in (("2.99.0", True), ("1.13.1+cu117", False), ("2.13.0", False)):
        answer = {"problems": {}, "versions": {"torch": version}}
        monkeypatch.setattr(machine_checks, "run_tool", lambda *_, answer=answer: answer)
        found = [f for f in machine_checks.check_environment(context) if f.severity == "warning"]
        assert bool(found) == reported


def test_the_room_for_checkpoints_is_reckoned_from_the_weights(warm) -> None:
    sweep, project = warm
    assert "not known yet" in disk_need(sweep, project, 5)[1]
    with open(project.root / "w.pth", "wb") as stream:
        stream.truncate(200_000_000)
    need, why = disk_need(sweep, project, 5)
    assert need == 16 * 800_000_000 and "5 trials of 3 checkpoints of up to 800 MB" in why


def test_a_file_in_the_place_of_the_runs_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    assert "is a file" in (unwritable_reason(tmp_path / "runs") or "")
    assert unwritable_reason(tmp_path) is None
    assert os.listdir(tmp_path) == ["runs"]
