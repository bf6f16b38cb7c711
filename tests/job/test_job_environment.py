"""What a job is given of the launcher's environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.job.torch_tools import job_env
from pipeline.plan.sweep import JobSettings


def test_a_job_is_handed_no_secret_of_the_launcher(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary")
    monkeypatch.setenv("PCAN_STORAGE", "postgresql+psycopg://me:canary@host/db")
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    env = job_env(JobSettings(), tmp_path)
    assert not [name for name, value in env.items() if "canary" in value]
    assert env["NCCL_DEBUG"] == "INFO"


@pytest.mark.parametrize(
    "terminal",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_letters_that_a_terminal_has_not_end_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: dict[str, str]
) -> None:
    for name, value in terminal.items():
        monkeypatch.setenv(name, value)
    words = [sys.executable, "-c", "print('\\u8bad\\u7ec3 \\xb1 \\udcff')"]
    done = subprocess.run(
        words, env=job_env(JobSettings(), tmp_path), capture_output=True, check=False
    )
    assert done.returncode == 0 and done.stdout.decode() == "训练 ± \\udcff\n"
