"""What all tests share: the project's folder and the shipped plan."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import private_postgres  # noqa: E402

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[private_postgres.PrivatePostgres]:
    """A real PostgreSQL; a test that stops it starts it again."""
    # Not below pytest's folder, which the server's user may not enter.
    with tempfile.TemporaryDirectory(prefix="pcan-postgres-", ignore_cleanup_errors=True) as name:
        server = private_postgres.PrivatePostgres(Path(name) / "server")
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres: private_postgres.PrivatePostgres) -> str:
    """The URL of a database that all tests share; a sweep there needs a name of its own."""
    return postgres.url()
