"""What a job is given of the launcher's environment."""

from pathlib import Path

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
