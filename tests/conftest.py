"""What all tests share: the project's folder and the shipped plan."""

import os
from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def plan() -> Sweep:
    """The training plan as shipped."""
    return read_sweep(ROOT / "sweeps" / "pcan_ntu60.yaml", ROOT)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips and logs, by PCAN_DATA or beside the project."""
    folder = Path(os.environ.get("PCAN_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "utd_mhad_demo8").is_dir():
        pytest.skip(f"real data absent: no utd_mhad_demo8 in {folder} (set PCAN_DATA)")
    return folder
