"""What the first commands leave in a project, and how they call files and fail."""

import os
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.plan.project import Project, find_project
from pipeline.preflight.finding import CheckContext
from pipeline.preflight.machine_checks import check_folder
from pipeline.shared.files import make_private, shell_word


@pytest.fixture
def pcan(called):
    """Return code and output of a command in a project of one sweep."""

    def run(*words: str) -> tuple[int, str]:
        code, found = called(*words)
        return code, "".join(found)

    return run


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    "words",
    ["sweep plan tiny", "sweep register tiny", "sweep compare tiny"],
)
def test_runs_is_private_from_the_first_command_on(pcan, project, usual_umask, words) -> None:
    pcan(*words.split())
    runs = project.root / "runs"
    assert runs.is_dir()
    for folder in (runs, *(f for f in runs.rglob("*") if f.is_dir())):
        assert folder.stat().st_mode & 0o077 == 0, folder
    assert not list(check_folder(CheckContext(project=Project(project.root), sweep=None)))


def test_no_module_gives_a_mode_to_the_last_folder_alone(root: Path) -> None:
    for file in (root / "pipeline").rglob("*.py"):
        text = file.read_text()
        assert "mkdir(mode=0o700, parents" not in text, f"{file}: use make_private"


def test_only_what_was_missing_is_made_private(tmp_path: Path, usual_umask) -> None:
    (tmp_path / "there").mkdir()
    make_private(tmp_path / "there" / "a" / "b")
    make_private(tmp_path / "there" / "a" / "b")
    modes = {n: (tmp_path / n).stat().st_mode & 0o777 for n in ("there", "there/a", "there/a/b")}
    assert modes == {"there": 0o755, "there/a": 0o700, "there/a/b": 0o700}


@pytest.mark.parametrize(
    ("change", "code", "reported"),
    [
        (("config: jobs/tiny.py", "config: jobs/gone.py"), 2, "jobs/gone.py"),
        (("gpus: 2,", "gpus: 2, python: gone/python,"), 5, "gone/python"),
        (("train_cfg.max_epochs", "train_cfg.no_such.key"), 2, "no_such"),
    ],
)
def test_a_plan_that_cannot_be_shown_does_not_end_as_if_it_was(
    pcan, project, change: tuple[str, str], code: int, reported: str
) -> None:
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace(*change))
    for words in (("sweep", "plan", "tiny"), ("sweep", "plan", "tiny", "--json")):
        found, output = pcan(*words)
        assert found == code and reported in output, output


def test_a_checkpoint_is_inspected_with_the_sweeps_interpreter_and_checkout(
    pcan, project, monkeypatch
) -> None:
    import torch

    seen = project.root / "seen"
    python = project.root / "own-python"
    python.write_text(f'#!/bin/sh\necho "$PYTHONPATH" > "{seen}"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("gpus: 2,", "gpus: 2, python: own-python,"))
    (project.root / "below").mkdir()
    torch.save({"state_dict": {"w": torch.ones(2)}}, project.root / "below" / "-w 1.pth")
    monkeypatch.chdir(project.root / "below")
    code, output = pcan("checkpoint", "inspect", "--sweep", "tiny", "--", "-w 1.pth")
    assert code == 0 and output.startswith("-w 1.pth: "), output
    assert "A warm start would refuse it" in output and str(project.root / "jobs") in output
    assert str(project.root / "jobs") in seen.read_text()
    file.write_text(file.read_text().replace("own-python", "gone-python"))
    assert pcan("checkpoint", "inspect", "--sweep", "tiny", "--", "-w 1.pth")[0] == 5


def test_a_sweep_is_found_by_the_name_that_messages_call_it(pcan, project) -> None:
    os.rename(project.root / "sweeps" / "tiny.yaml", project.root / "sweeps" / "my plan.yaml")
    (project.root / "sweeps" / "other.yaml").write_text("name: other\n")
    for given in ("tiny", "my plan", "sweeps/my plan.yaml"):
        assert pcan("sweep", "status", given)[0] == 0


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    with pytest.raises(InputError, match="not UTF-8 text. Rename it"):
        find_project(folder)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("a.pth", "a.pth"),
        ("my file", "'my file'"),
        ("-rf", "./-rf"),
        ("a;b", "'a;b'"),
        ("$HOME", "'$HOME'"),
        ("it's", "'it'\"'\"'s'"),
        ("测试", "'测试'"),
    ],
)
def test_paths_in_printed_commands_are_words_of_a_shell(path: str, word: str) -> None:
    assert shell_word(path) == word
