"""The config of an export: nothing of the job's, one early stopping, data that can be moved."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.job.torch_tools import run_tool
from pipeline.plan.sweep import JobSettings
from pipeline.report.best.exported_config import ExportedConfig, movable

PARTS = """
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class HisStop(EarlyStoppingHook): ...

@HOOKS.register_module()
class HisHook(Hook): ...
"""
CONFIG = """
custom_imports = dict(imports=["his_parts"], allow_failed_imports=False)
model = dict(type="His")
load_from, resume, launcher = "old.pth", True, "slurm"
default_hooks = dict(checkpoint=dict(type="CheckpointHook"), stop=dict(type="HisStop"))
custom_hooks = [dict(type=one) for one in ("mmengine.EarlyStoppingHook", "HisStop", "HisHook")]
visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="WandbVisBackend")])
train_dataloader = dict(dataset=dict(
    type="RepeatDataset",
    dataset=dict(data_root="d", ann_file="a.pkl", data_prefix=dict(video="v"))))
val_dataloader = dict(dataset=dict(ann_file="/elsewhere/b.pkl", data_prefix=""))
"""
STOP = {"monitor": "acc", "patience": 3, "min_delta": 0.0005}
READS = "from mmengine import Config; Config.fromfile('config.py'); import mmaction.models"


def exported(folder: Path, text: str, stop: dict | None) -> dict:
    return run_tool("export_config", {"config": text, "stop": stop}, JobSettings(), folder)


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """What the tool makes of a config with everything in it that an export leaves out."""
    folder = tmp_path_factory.mktemp("his")
    (folder / "his_parts.py").write_text(PARTS)
    return folder, exported(folder, CONFIG, STOP)


def test_an_export_has_the_early_stopping_of_the_plan_alone(answer) -> None:
    _, found = answer
    assert found["config"].count("EarlyStoppingHook") == 1 and "patience=3" in found["config"]
    assert "HisStop" not in found["config"] and 'type="HisHook"' in found["config"]
    assert "CheckpointHook" in found["config"]


def test_an_export_loads_nothing_stale_and_sends_nothing(answer) -> None:
    _, found = answer
    assert "launcher" not in found["config"]
    assert "load_from = None" in found["config"] and "resume = False" in found["config"]
    assert "Wandb" not in found["config"] and "LocalVisBackend" in found["config"]


def test_the_config_of_a_model_that_is_not_pcans_needs_no_pcan(answer) -> None:
    folder, found = answer
    assert not found["pcan"] and "pipeline" not in found["config"]
    (folder / "config.py").write_text(found["config"])
    subprocess.run([sys.executable, "-c", READS], cwd=folder, check=True)


def test_the_paths_of_each_loader_are_found(answer) -> None:
    _, found = answer
    assert found["paths"] == {
        "train_dataloader": ["d/a.pkl", "d/v"],
        "val_dataloader": ["/elsewhere/b.pkl"],
    }
    config = ExportedConfig(text="", needs_pcan=False, data_root="d", paths=found["paths"])
    assert config.unmoved == ["val_dataloader"]


@pytest.mark.parametrize("root", ["data/demo", "/数据/有 空格 (1)"])
def test_data_are_read_below_a_variable_where_it_is_set(root, tmp_path, monkeypatch) -> None:
    from mmengine import Config

    text = f'a = ["{root}/x.pkl", "{root}", "{root}2"]\ndata_root = "{root}"\n'
    moved, found = movable(text)
    (tmp_path / "c.py").write_text(moved)
    assert found == root
    assert Config.fromfile(tmp_path / "c.py").a == [f"{root}/x.pkl", root, f"{root}2"]
    monkeypatch.setenv("PCAN_DATA_ROOT", "/else where")
    assert Config.fromfile(tmp_path / "c.py").a == ["/else where/x.pkl", "/else where", f"{root}2"]


def test_a_config_without_a_data_root_stays_as_it_is() -> None:
    assert movable("a = 'data/x'\n") == ("a = 'data/x'\n", None)
