"""What a wheel holds: one package, with the plans and configs inside it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    pytest.importorskip("hatchling", reason="the build backend is not in this environment")
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = out.glob("pcan-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_nothing_is_top_level_but_the_package(names: list[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pipeline"}


def test_plans_configs_and_assets_are_inside(names: list[str]) -> None:
    for file in (
        "pipeline/_data/sweeps/pcan_ntu60.yaml",
        "pipeline/_data/sweeps/demo.yaml",
        "pipeline/_data/configs/pcan_ntu60.py",
        "pipeline/_data/wandb.yaml",
        "pipeline/report/compare/static/page.html",
    ):
        assert file in names
    assert not [name for name in names if name.startswith("pipeline/tests")]
