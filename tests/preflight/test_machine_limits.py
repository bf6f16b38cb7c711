"""Limits of the machine at which a job would stand still are known before it is started."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.preflight.machine_limits import (
    BatchLoad,
    loader_limits,
    machine_limits,
    processes_left,
)

SAY = (
    "from pipeline.preflight.machine_limits import machine_limits as m;"
    "f = m(1, 2); print('CERTAIN', *f.certain); print('LIKELY', *f.likely)"
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name: pytest's own may be too long for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="pcan-", dir="/tmp") as folder:
        yield Path(folder)


def said(root: Path, limit: str = "true", **environment: str) -> str:
    """Return what is said of this machine under a shell's limit, in an environment."""
    return subprocess.run(
        ["sh", "-c", f'{limit}; exec "$0" -c "$1"', sys.executable, SAY],
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    ("limit", "environment", "reported"),
    [
        ("ulimit -n 26", {}, "CERTAIN A process may have 26 files open here, and a rank"),
        ("ulimit -n 40", {}, "LIKELY A process may have 40 files open here"),
        ("ulimit -Sn 40", {}, "CERTAIN\nLIKELY\n"),
        ("true", {"TMPDIR": "/no/such/place"}, "LIKELY TMPDIR is /no/such/place, which is not a"),
        ("true", {"TMPDIR": "/proc"}, "LIKELY TMPDIR is /proc, which cannot be written; "),
        ("true", {"GLOO_SOCKET_IFNAME": "eth77"}, "CERTAIN GLOO_SOCKET_IFNAME is eth77; this"),
        ("true", {"GLOO_SOCKET_IFNAME": "lo"}, "CERTAIN\nLIKELY\n"),
        ("true", {"NCCL_SOCKET_IFNAME": "^docker"}, "CERTAIN\nLIKELY\n"),
    ],
)
def test_a_limit_is_said_before_any_job(root, limit, environment, reported) -> None:
    assert reported in said(root, limit, **environment)


def test_a_long_temporary_folder_is_said_with_its_length(root, tmp_path) -> None:
    folder = tmp_path / ("t" * 100)
    folder.mkdir()
    reported = said(root, TMPDIR=str(folder))
    assert f"{folder} has {len(str(folder))} bytes, and sockets of data workers need" in reported


def load(**changes: int) -> BatchLoad:
    usual = {"batch_bytes": 10**6, "batch_tensors": 40, "workers": 2, "prefetch": 2}
    return BatchLoad(loader="train_dataloader", **{**usual, **changes})


@pytest.mark.parametrize(
    ("changes", "certain", "reported"),
    [
        ({}, True, None),
        ({"workers": 0, "batch_bytes": 10**15}, True, None),
        ({"batch_bytes": 10**15}, True, "1000000.0 GB each in shared memory"),
        ({"prefetch": 10**9}, False, "Make it larger (docker run --shm-size"),
        ({"batch_tensors": 10**10}, True, "a rank of a job needs about 20000000064"),
    ],
)
def test_what_the_batches_of_a_loader_take_is_compared_with_what_there_is(
    changes, certain, reported
) -> None:
    found = loader_limits([load(**changes)], jobs=1, ranks=2, prepared=False)
    lines = found.certain if certain else found.likely
    assert not lines if reported is None else reported in lines[0]


def test_a_full_temporary_folder_is_left_or_refused(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["unshare", "-m", "sh", "-c"]
    script = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$1" -c "$2"'
    done = subprocess.run(
        [*mount, script, str(small), sys.executable, SAY],
        env={**os.environ, "TMPDIR": str(small)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if "LIKELY" not in done.stdout:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[-80:]}")
    assert f"CERTAIN {small}, the folder for temporary files, has 1.0 MB free" in done.stdout


def test_this_machine_has_room_for_a_job() -> None:
    assert processes_left()[0] > 0 and tempfile.gettempdir()
    assert machine_limits(1, 1).certain == ()
