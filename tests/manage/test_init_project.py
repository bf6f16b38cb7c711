"""A project without a clone: the wheel, unpacked, brings plans and configs for `pcan init`."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import built_package
from pipeline.errors import InputError
from pipeline.manage.init_project import new_project

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip lays it down, without its dependencies."""
    out = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(built_package.build(out)) as archive:
        archive.extractall(out / "site")
    return out / "site"


def pcan(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_without_a_clone_makes_a_project_that_works(installed, tmp_path) -> None:
    done = pcan(installed, tmp_path, "init", "ntu60")
    assert done.returncode == 0, done.stderr
    files = {str(Path(line).relative_to("ntu60")) for line in done.stdout.splitlines()}
    assert {"wandb.yaml", "sweeps/pcan_ntu60.yaml", "configs/pcan_ntu60.py"} <= files
    for name in files:
        assert (tmp_path / "ntu60" / name).read_bytes() == (ROOT / name).read_bytes()
    listed = pcan(installed, tmp_path / "ntu60", "sweep", "list")
    assert "sweeps/pcan_ntu60.yaml" in listed.stdout and "problem" not in listed.stdout
    made = pcan(installed, tmp_path / "ntu60", "sweep", "register", "pcan_ntu60")
    assert "pcan_ntu60/baseline" in made.stdout, made.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "pcan_ntu60.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"has sweeps/pcan_ntu60.yaml already"):
        new_project(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["sweeps"]
    assert (tmp_path / "sweeps" / "pcan_ntu60.yaml").read_text() == "mine"
