"""`pcan checkpoint inspect` and the tool behind it, through real child processes."""

import json
import math
import os
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import tiny_run
from pipeline.cli.checkpoint_inspect import command
from pipeline.job import torch_tools

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    import pipeline.train.model  # noqa: F401
    from pipeline.train.tools.inspect_checkpoint import inspect
    from pipeline.train.tools.tool import ToolError

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "pcan_ntu60.py")


@pytest.fixture(autouse=True)
def child_environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def ask(**question):
    return tiny_run.ask("inspect_checkpoint", question)


def run(*arguments):
    return CliRunner().invoke(command, ["inspect", *map(str, arguments)])


@pytest.fixture
def small_public_file(tmp_path):
    state = {
        "backbone.pose_path.conv1.conv.weight": torch.zeros(32, 17, 1, 7, 7),
        "backbone.featuredifference2.conv1.weight": torch.zeros(128, 512, 1, 1, 1),
        "cls_head.fc_rgb.weight": torch.zeros(60, 2048),
        "cls_head.fc_rgb_coarse.weight": torch.zeros(8, 2048),
        "cls_head.fr_rgb.spatio_cl_net.avg_f": torch.zeros(256, 60),
    }
    path = tmp_path / "epoch_26.pth"
    torch.save({"state_dict": state, "meta": {"epoch": 26, "iter": 26000}}, path)
    return path


def test_a_file_is_described_by_its_names_and_shapes(small_public_file):
    code, answer = ask(checkpoint=str(small_public_file))
    file = answer["file"]
    assert (code, answer["schema"], answer["fit"]) == (0, 1, None)
    assert (file["kind"], file["epoch"], file["tensors"]) == ("pcan-public", 26, 5)
    assert (file["classes"], file["coarse_classes"], file["joints"]) == (60, 8, 17)


def test_the_command_prints_what_a_warm_start_would_load(small_public_file):
    result = run(small_public_file, "--config", CONFIG)
    assert result.exit_code == 0, result.output
    assert "PCAN with the names of its public implementations, epoch 26" in result.output
    assert "PCANBackbone and PCANHead, 60 classes, 17 joints" in result.output
    assert "5 tensors, 2 of them under another name" in result.output
    assert "A warm start would refuse it (needs 95 %)." in result.output


def test_json_holds_the_same(small_public_file):
    answer = json.loads(run(small_public_file, "--json").output)
    assert answer["schema"] == 1
    assert answer["file"]["description"].startswith("PCAN with the names")


def test_weights_of_eight_bits_are_described(tmp_path):
    weight = torch.tensor([1.0, math.nan]).to(torch.float8_e4m3fn)
    torch.save({"state_dict": {"w": weight}}, tmp_path / "w.pth")
    result = run(tmp_path / "w.pth")
    assert result.exit_code == 0 and "NaN or infinite" in result.output


def test_an_unsafe_file_is_refused_with_exit_code_2(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    result = run(tmp_path / "evil.pth")
    assert result.exception.exit_code == 2
    assert "would run posix.system" in str(result.exception)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_file_of_weights_is_said_without_a_process_of_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_tools, "run_tool", None)  # an error of Python if it were called
    (tmp_path / "empty.pth").touch()
    for name, words in (
        ("nothing", "There is no checkpoint file"),
        ("empty", "is empty (0 bytes)"),
    ):
        result = run(tmp_path / f"{name}.pth")
        assert result.exception.exit_code == 2
        assert words in str(result.exception)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model['cls_head']['num_classes'] = 52", "60 entries for num_classes 52"),
        ("model['cls_head']['loss_weights'] = [1.0, 2.0]", "PCAN has four"),
        ("model['backbone']['pose_frames'] = 16", "does not fit speed_ratio 4"),
    ],
)
def test_a_wrong_config_is_one_sentence(tmp_path, change, sentence):
    path = tmp_path / "wrong.py"
    path.write_text(Path(CONFIG).read_text() + "\n" + change + "\n")
    with pytest.raises(ToolError, match=sentence):
        inspect({"config": str(path)})


def test_the_tool_answers_a_wrong_config_with_exit_code_2(tmp_path):
    (tmp_path / "wrong.py").write_text("model = dict(type='PCANHead')\n")
    code, answer = ask(config=str(tmp_path / "wrong.py"))
    assert code == 2
    assert "wrong.py: " in answer["error"]


def test_parts_of_a_config_that_disagree_are_reported(tmp_path):
    path = tmp_path / "wrong.py"
    changes = [
        "train_pipeline[0]['clip_len'] = dict(RGB=4, Pose=16)",
        "model['backbone']['pose_pathway']['in_channels'] = 13",
        "model['cls_head']['in_channels'] = [2048, 256]",
    ]
    path.write_text("\n".join([Path(CONFIG).read_text(), *changes]) + "\n")
    problems = " ".join(inspect({"config": str(path)})["config"]["problems"])
    assert "train_dataloader samples clips of {'RGB': 4, 'Pose': 16}" in problems
    assert "flips joint 16, the backbone is built for 13 joints" in problems
    assert "the backbone gives [2048, 512]" in problems


def test_the_shipped_config_has_no_problem_and_the_plans_numbers():
    config = inspect({"config": CONFIG})["config"]
    assert config["problems"] == []
    assert (config["classes"], config["coarse_classes"], config["joints"]) == (60, 8, 17)
    assert config["frames"] == {"RGB": 8, "Pose": 32}
