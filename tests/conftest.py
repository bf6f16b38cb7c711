"""Fixtures of all tests: the repository, the shipped plan, a small project, real servers."""

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fake_gpus
import private_postgres
import private_slurm
import slurm_project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from tiny_project import Project, watched

ROOT = Path(__file__).resolve().parents[1]
# As `pcan` itself does: most objects of a run of the tests are modules, which all stay.
gc.set_threshold(100_000)
#: Rooms with files that take minutes.
LONG = ("launch", "cluster", "surface", "manage", "preflight", "refine", "report", "train")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long rooms; within a room nothing moves."""
    order = {room: place for place, room in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(LONG)))


def pytest_collection_finish() -> None:
    """Have searches for garbage pass over what stands by now, as a job does before it trains.

    MMEngine asks for one with every data set that it builds, pytest for some at its end. What
    Hypothesis looks for among all objects when it is imported would no longer be found.
    """
    import hypothesis  # noqa: F401

    gc.freeze()


def _scopes_put_back() -> Iterator[None]:
    """Let no other test find the registry scopes that a runner leaves in this process."""
    name = "mmengine.registry.default_scope"
    before = sys.modules[name].DefaultScope._instance_dict.copy() if name in sys.modules else {}
    yield
    if name in sys.modules:
        sys.modules[name].DefaultScope._instance_dict = before


scopes_of_a_test = pytest.fixture(autouse=True)(_scopes_put_back)
scopes_of_a_file = pytest.fixture(autouse=True, scope="module")(_scopes_put_back)


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


def odd_folder(above: Path, space: str = " ") -> Path:
    """Make a folder whose letters mean something in URLs, shells, formats and PYTHONPATH."""
    folder = above / f"it's{space}a{{b}}:100%20?#\"[测试]$x"
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory):
    """An empty project; whatever a test leaves running is a failure of the test.

    All tests get the same folder one after another, so that what the job side answered of a config
    is known to the next.
    """
    base = tmp_path_factory.getbasetemp()
    (base / "project").mkdir()
    made = Project(base / "project", answers=base / "answers")
    try:
        yield from watched(made)
    finally:
        made.remove()


@pytest.fixture
def odd_project(tmp_path: Path):
    """An empty project in a folder with an odd name, for jobs of a scheduler."""
    # scontrol's answers, which the tests read, are words between spaces.
    yield from watched(Project(odd_folder(tmp_path, space="_")))


@pytest.fixture(scope="module")
def module_project(tmp_path_factory: pytest.TempPathFactory):
    """A project that all tests of a module look at."""
    yield from watched(Project(odd_folder(tmp_path_factory.mktemp("project"))))


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition; the limit is for a machine that is very busy."""

    def wait(condition: Callable[[], bool], what: str, limit_s: float = 120) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"never happened: {what}"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def slurm():
    """A real SLURM of the tests' own: one node with four fake GPUs."""
    absent = private_slurm.missing()
    if absent:
        reason = f"SLURM is absent ({', '.join(absent)}; apt-get install slurmctld slurmd munge)"
        if os.environ.get("PCAN_REQUIRE_ENGINES"):
            pytest.fail(f"{reason} and required here (PCAN_REQUIRE_ENGINES)")
        pytest.skip(reason)
    # A short path: sockets lie below it, and others (munge) have to reach it.
    folder = Path(tempfile.mkdtemp(prefix="pcan-slurm-"))
    folder.chmod(0o755)
    cluster = private_slurm.PrivateSlurm(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(odd_project, slurm, tmp_path_factory: pytest.TempPathFactory, monkeypatch):
    """A project of its own on that SLURM; jobs that a test leaves behind are cancelled."""
    driver = tmp_path_factory.mktemp("driver")
    smi, _ = fake_gpus.write(driver, sys.executable)
    monkeypatch.setenv("PCAN_NVIDIA_SMI", str(smi))
    monkeypatch.setenv("PCAN_LOCKS", str(driver / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in slurm.env().items():
        monkeypatch.setenv(name, value)
    made = slurm_project.Cluster(odd_project, slurm, driver)
    yield made
    left = [n for n, j in made.mine().items() if j["JobState"] in ("PENDING", "RUNNING")]
    if left:
        slurm.call("scancel", "--quiet", *left)
        deadline = time.monotonic() + 20
        while odd_project.job_pids() and time.monotonic() < deadline:
            time.sleep(0.1)
