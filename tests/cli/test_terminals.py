"""The command on terminals that lack something: letters, width, or any stream at all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PCAN = f"{sys.executable} -P -m pipeline.cli.main"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped sweeps in a project where nothing has run, whatever was run in this one."""
    folder = tmp_path_factory.mktemp("fresh")
    for name in ("sweeps", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "wandb.yaml", folder)
    return folder


def shell(command: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in a project; stderr is inside stdout."""
    return subprocess.run(
        ["bash", "-c", command.replace("pcan ", f"{PCAN} ")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="latin-1",
        check=False,
    )


@pytest.mark.parametrize(
    "env",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"TERM": "dumb", "COLUMNS": "0"},
        {"COLUMNS": "7"},
    ],
)
def test_a_poor_terminal_gets_the_answer(env: dict[str, str], fresh: Path) -> None:
    done = shell("pcan sweep list && pcan sweep status demo | cat", fresh, **env)
    assert done.returncode == 0 and "Traceback" not in done.stdout
    assert "pcan sweep launch demo" in done.stdout


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("pcan sweep list >&-", 0),
        ("pcan sweep list >&- 2>&- <&-", 0),
        ("pcan sweep status nosuch 2>&-", 2),
        ("pcan sweep list nonsense >&- 2>&-", 2),
        ("pcan sweep list > /dev/full", 5),
        ("set -o pipefail; pcan sweep list | true", 0),
        ("set -o pipefail; pcan --help | head -1", 0),
    ],
)
def test_a_stream_that_is_not_there_changes_no_exit_code(
    line: str, code: int, fresh: Path
) -> None:
    done = shell(line, fresh)
    assert done.returncode == code and "Traceback" not in done.stdout
    assert "Exception ignored" not in done.stdout


def test_a_closed_stdout_is_never_the_storage(tmp_path: Path, fresh: Path) -> None:
    """The lowest free descriptor would be the storage's: results must not land in it."""
    url = f"sqlite:///{tmp_path}/s.db"
    done = shell(
        f"pcan sweep status demo --storage {url} >&-; pcan sweep status demo --storage {url}",
        fresh,
    )
    assert done.returncode == 0 and "Nothing is registered" in done.stdout
