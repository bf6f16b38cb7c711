"""Run directories: private, and never started over unasked."""

import zipfile
from pathlib import Path

import pytest

from pipeline.cli.common.terminal import Terminal
from pipeline.errors import NotReady
from pipeline.launch.resume_checkpoint import (
    _refuse_to_start_over,
    checkpoint_to_resume,
    newest_checkpoint,
    quarantine_checkpoint,
    quarantine_damaged,
)
from pipeline.launch.workdir import _private
from pipeline.plan.project import Project
from pipeline.shared.files import append_line, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec


class Named:
    name = "baseline/0"


def test_every_folder_from_runs_down_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny" / "baseline" / "0" / "checkpoints"
    _private(tmp_path / "runs", folder)
    for each in (folder, *list(folder.parents)[:4]):
        assert each.stat().st_mode & 0o077 == 0, each


@pytest.mark.parametrize("linked", ["tiny", "tiny/baseline", "tiny/baseline/0"])
def test_a_link_out_of_runs_is_refused_and_nothing_is_written_there(
    tmp_path: Path, linked: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "runs" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(NotReady, match=f"{link} is a link to {elsewhere}, outside of"):
        _private(tmp_path / "runs", tmp_path / "runs" / "tiny" / "baseline" / "0" / "checkpoints")
    assert not list(elsewhere.iterdir())


def test_runs_itself_may_lie_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "large")
    _private(tmp_path / "runs", tmp_path / "runs" / "tiny" / "baseline" / "0")
    assert (tmp_path / "large" / "tiny" / "baseline" / "0").is_dir()


def checkpoint(rundir: RunDir, epoch: int, whole: bool = True) -> None:
    rundir.checkpoints.mkdir(exist_ok=True)
    path = rundir.checkpoints / f"epoch_{epoch}.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "x" * 1000)
    if not whole:
        path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    "junk", ["epoch_x.pth", ".epoch_9.pth.abc", "epoch_9.damaged", "best.pth"]
)
def test_the_newest_checkpoint_that_is_whole_is_taken(tmp_path: Path, junk: str) -> None:
    rundir = RunDir(tmp_path)
    for epoch, whole in ((2, True), (9, True), (10, False)):
        checkpoint(rundir, epoch, whole)
    (rundir.checkpoints / junk).write_bytes(b"x")
    newest = newest_checkpoint(rundir)
    assert newest is not None and newest.name == "epoch_9.pth"
    quarantine_checkpoint(rundir, "checkpoints/epoch_9.pth")
    newest = newest_checkpoint(rundir)
    assert newest is not None and newest.name == "epoch_2.pth"


def test_a_trained_trial_without_checkpoints_is_not_started_over(tmp_path: Path) -> None:
    rundir, project = RunDir(tmp_path), Project(tmp_path)
    append_line(rundir.measurements, Measurement(epoch=0, top1=0.5).to_line())
    _refuse_to_start_over(project, rundir, Named())  # type: ignore[arg-type]
    append_line(rundir.measurements, Measurement(epoch=1, top1=0.5).to_line())
    with pytest.raises(NotReady, match="has measured 1 epoch, but none of its checkpoints"):
        _refuse_to_start_over(project, rundir, Named())  # type: ignore[arg-type]


def test_another_number_of_ranks_is_refused_and_its_checkpoints_are_kept(tmp_path: Path) -> None:
    rundir, project = RunDir(tmp_path / "0"), Project(tmp_path)
    rundir.root.mkdir()
    write_json(rundir.spec, TrialSpec(nproc=2).to_json())
    assert checkpoint_to_resume(project, rundir, Named(), 1) is None  # type: ignore[arg-type]
    checkpoint(rundir, 3)
    assert checkpoint_to_resume(project, rundir, Named(), 2) is not None  # type: ignore[arg-type]
    with pytest.raises(
        NotReady, match=r"with job.gpus 2 up to epoch_3, .* Set job.gpus back to 2"
    ):
        checkpoint_to_resume(project, rundir, Named(), 1)  # type: ignore[arg-type]
    assert [file.name for file in rundir.checkpoints.iterdir()] == ["epoch_3.pth"]


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    checkpoint(rundir, 1)
    (rundir.checkpoints / "epoch_2.pth").symlink_to("epoch_2.pth")
    with pytest.raises(NotReady, match=r"epoch_2.pth cannot be read: Too many levels"):
        quarantine_damaged(rundir)
    assert (rundir.checkpoints / "epoch_2.pth").is_symlink()


def test_terminal_codes_in_a_line_are_dropped(capsys) -> None:
    Terminal().line("a\x1b[2Jb\x07c\nnext")
    assert capsys.readouterr().err.splitlines() == ["a[2Jbc", "next"]
