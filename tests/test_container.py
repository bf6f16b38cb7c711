"""The image's recipe: held by a linter, and what it copies is enough to build the package."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import built_package

ROOT = Path(__file__).resolve().parents[1]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
STEPS = [line.split(" ", 1) for line in LINES if line and not line.startswith("#")]
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def given(word: str) -> list[str]:
    return [rest for step, rest in STEPS if step == word]


def test_a_linter_finds_nothing() -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin")
    if program is None:
        pytest.skip("hadolint is not in this environment (extra: test)")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_an_argument_and_the_user_is_not_root() -> None:
    assert given("FROM") == ["${BASE}"]
    base = next(arg for arg in given("ARG") if arg.startswith("BASE="))
    assert re.fullmatch(r"BASE=nvidia/cuda:[\d.]+-runtime-ubuntu\d\d\.\d\d", base)
    assert given("USER") == ["10001"] and given("ENTRYPOINT") == ['["pcan"]']


def test_what_the_image_copies_builds_the_same_package(tmp_path: Path) -> None:
    """Files that .dockerignore leaves out are not there; hatchling would miss one it needs."""
    assert IGNORED[1] == "*"
    source = tmp_path / "source"
    source.mkdir()
    for name in (line[1:] for line in IGNORED if line.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        else:
            shutil.copy(ROOT / name, source)
    made = built_package.build(tmp_path / "out", source)
    assert built_package.content(made) == built_package.content(built_package.build(tmp_path))
    assert (source / "requirements" / "install.sh").is_file()
