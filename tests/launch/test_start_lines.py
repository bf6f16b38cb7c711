"""What a start says: three lines at most, the rest in a file."""

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.launch.launch_process import last_command, opening_lines, write_pidfile
from pipeline.launch.messages import weights_lines
from pipeline.plan.project import Project


def test_two_notes_are_said_as_they_are(tmp_path: Path) -> None:
    assert opening_lines(["a", "b"], tmp_path, Project(tmp_path)) == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_more_notes_go_to_a_file_that_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    lines = opening_lines(["a", "b", "c", "d"], folder, Project(tmp_path))
    assert lines == ["a", "3 more lines on this start: runs/demo/start.log"]
    assert (folder / "start.log").read_text() == "a\nb\nc\nd\n"


def test_prototype_banks_that_began_alike_share_a_line() -> None:
    notes = ["start.pth: PCAN", *(f"prototypes_{n}: from the checkpoint." for n in "abc")]
    notes.append("prototypes_d: random; its classes have no clip.")
    assert weights_lines("x/0", notes) == [
        "x/0: start.pth: PCAN",
        "x/0: 3 prototype banks: from the checkpoint.",
        "x/0: 1 prototype bank: random; its classes have no clip.",
    ]


def test_the_last_command_is_kept_as_typed(tmp_path: Path) -> None:
    assert last_command(tmp_path) == ""
    write_pidfile(tmp_path, "pcan sweep launch demo --device cpu", tmp_path / "demo.yaml")
    assert last_command(tmp_path) == "pcan sweep launch demo --device cpu"


def test_a_sweep_launched_from_elsewhere_is_found_by_its_name(tmp_path: Path) -> None:
    project, file = Project(tmp_path / "project"), tmp_path / "elsewhere.yaml"
    (project.runs / "there").mkdir(parents=True)
    write_pidfile(project.runs / "there", "pcan sweep launch ../elsewhere.yaml", file)
    with pytest.raises(InputError, match='There is no sweep "there"'):
        project.sweep_file("there")  # the file is gone
    file.touch()
    assert project.sweep_file("there") == file
    assert project.launched_elsewhere() == {"there": file}
