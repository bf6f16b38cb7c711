"""The old project twice: as it was left, and gone on with."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from old_project import WHOLE, GoneOn, OldProject  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> OldProject:
    """The project as it was left; tests only look at it and export from it."""
    return OldProject(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="session")
def gone_on(tmp_path_factory: pytest.TempPathFactory) -> GoneOn:
    return GoneOn(tmp_path_factory.mktemp("gone_on"), _tracking())


def _tracking() -> ModuleType:
    """Return what tests/track share, without being below it."""
    file = ROOT / "tests" / "track" / "conftest.py"
    spec = importlib.util.spec_from_file_location("surface_tracking", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[OldProject]:
    """The old project uncut: real weights, its whole drawn set."""
    folder = Path(os.environ.get("PCAN_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / WHOLE).is_file():
        pytest.skip(f"the whole old project is absent: no {WHOLE} in {folder} (set PCAN_DATA)")
    yield OldProject(tmp_path, folder / WHOLE)
