"""The config of a job as MMEngine writes it into logs, files and checkpoints."""

import os
import warnings

import pytest
from mmengine.config import Config

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's of its own parts, imported through mmengine
    from pipeline.train.runner_config import JobConfig
    from pipeline.train.seeding import allow_deterministic_products


@pytest.fixture(params=["pcan_ntu60", "utd_mhad8", "pcan_demo"])
def config(root, request):
    file = root / "configs" / f"{request.param}.py"
    read = Config.fromfile(str(file), import_custom_modules=False)
    return JobConfig(read.to_dict(), cfg_text=read.text, filename=read.filename)


def test_its_text_is_read_back_as_the_same_config(config, tmp_path):
    config.dump(str(tmp_path / "dumped.py"))
    again = Config.fromfile(str(tmp_path / "dumped.py"), import_custom_modules=False)
    assert again.to_dict() == config.to_dict()
    assert max(map(len, config.pretty_text.splitlines())) < 200


def test_what_only_mmengine_writes_is_written_by_it(config):
    config.optim_wrapper.clip_grad = {"max_norm": range(3)}
    assert "max_norm=range(0,3)" in config.pretty_text.replace(" ", "")


@pytest.mark.parametrize(
    "randomness, before, after",
    [
        (None, None, None),
        ({"deterministic": False}, None, None),
        ({"deterministic": True}, None, ":4096:8"),
        ({"deterministic": True}, ":16:8", ":16:8"),
    ],
)
def test_cublas_is_told_of_a_deterministic_training(monkeypatch, randomness, before, after):
    name = "CUBLAS_WORKSPACE_CONFIG"
    monkeypatch.setenv(name, before or "")
    if before is None:
        monkeypatch.delenv(name)
    allow_deterministic_products({"randomness": randomness})
    assert os.environ.get(name) == after
