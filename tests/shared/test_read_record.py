"""An answer counts for as long as everything that it was made from is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.shared.read_record import unchanged

#: Imports a module of its own and reads files and folders, also one that is missing.
PROGRAM = """
import json, os, sys
from pipeline.shared.read_record import SourceRecorder
recorder = SourceRecorder()
import own
open("settings.txt").read()
os.listdir("clips")
open("made.txt", "w").write("by the tool itself")
try:
    open("extra.txt")
except OSError:
    pass
recorder.add("unseen.bin")
print(json.dumps(recorder.record()))
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def record(tmp_path):
    """A folder with what the program needs, and the record of its run."""
    for name in ("own.py", "settings.txt", "unseen.bin"):
        (tmp_path / name).write_text("")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "one.mp4").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return tmp_path, json.loads(done.stdout)


def test_an_answer_counts_while_nothing_changes(record) -> None:
    folder, sources = record
    assert unchanged(sources)
    (folder / "made.txt").unlink()
    (folder / "runs").mkdir()
    (folder / "clips" / "one.mp4").write_text("a clip that was listed, not read")
    assert unchanged(sources), "the tool's own output and files that it has not read do not matter"


@pytest.mark.parametrize("name", ["own.py", "settings.txt", "unseen.bin", "extra.txt"])
def test_a_file_that_was_read_or_looked_for_matters(record, name) -> None:
    folder, sources = record
    before = os.stat(folder / "settings.txt")
    (folder / name).write_text("#\n")
    os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not unchanged(sources)


@pytest.mark.parametrize("name", ["clips/two.mp4", "torch/__init__.py", "json.py"])
def test_a_new_clip_and_a_module_that_would_be_found_first_matter(record, name) -> None:
    folder, sources = record
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("")
    assert not unchanged(sources)


def test_a_package_of_another_version_matters(record) -> None:
    folder, sources = record
    sources["searched"][str(folder / "packages")] = None
    assert unchanged(sources)
    (folder / "packages" / "torch-9.dist-info").mkdir(parents=True)
    assert not unchanged(sources)


def test_a_file_written_while_the_tool_worked_is_never_trusted(tmp_path) -> None:
    program = PROGRAM.replace('open("settings.txt").read()', 'open("made.txt", "w").close()\n')
    program = program.replace('open("extra.txt")', 'open("made.txt")')
    (tmp_path / "own.py").write_text("")
    (tmp_path / "clips").mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, check=True
    )
    assert not unchanged(json.loads(done.stdout))
