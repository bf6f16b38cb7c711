"""The package as others get it: what a wheel and a source archive hold, and that both work."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import built_package
import older_environments
import pipeline
from built_package import content
from pipeline.job.provenance import versions

ROOT = Path(__file__).resolve().parents[1]
DATA = [file for folder in ("sweeps", "configs") for file in (ROOT / folder).glob("*.*")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_package.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_package.build(tmp_path_factory.mktemp("sdist"), kind="sdist")


def test_nothing_is_top_level_but_the_package(wheel: Path) -> None:
    top = {name.split("/")[0] for name in content(wheel)}
    assert top == {"pipeline", f"pcan-{pipeline.__version__}.dist-info"}


def test_plans_and_configs_are_inside_as_they_are_here(wheel: Path) -> None:
    found = content(wheel)
    for file in [*DATA, ROOT / "wandb.yaml"]:
        assert found[f"pipeline/_data/{file.relative_to(ROOT)}"] == file.read_bytes()
    assert "pipeline/report/compare/static/page.html" in found


def test_tests_and_benchmarks_stay_out(wheel: Path) -> None:
    parts = {part for name in content(wheel) for part in Path(name).parts}
    assert not parts & {"tests", "benchmarks", "support", "conftest.py", "__pycache__"}


def test_a_source_archive_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert content(built_package.build(tmp_path / "out", source)) == content(wheel)


def test_the_version_is_the_codes_own_where_an_older_install_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "pcan-0.0.1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.4\nName: pcan\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert versions(("pcan",)) == {"pcan": pipeline.__version__}


def test_the_newest_version_of_the_changelog_is_this_one() -> None:
    heads = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if "## " in line]
    released = [head for head in heads if head.startswith("## ") and head != "## Unreleased"]
    assert released[0].startswith(f"## {pipeline.__version__} - ")


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.parametrize("python", ["this", "3.12"])
def test_an_installed_wheel_makes_a_project_and_shows_its_plan(
    python: str, wheel: Path, tmp_path: Path
) -> None:
    has_packages = sys.executable if python == "this" else older_environments.python(python)
    programs = built_package.install(wheel, tmp_path / "venv", has_packages)

    def pcan(*words: str, cwd: Path = tmp_path) -> str:
        command = [programs / "pcan", *words]
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "120"}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert pcan("--version").startswith(f"pcan {pipeline.__version__}, torch ")
    assert len(pcan("init", "ntu60").splitlines()) == len(DATA) + 1
    for sweep in ("pcan_ntu60", "demo"):
        assert "baseline" in pcan("sweep", "plan", sweep, cwd=tmp_path / "ntu60")
