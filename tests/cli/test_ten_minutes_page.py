"""`docs/ten-minutes.md`: every block of it is run, on a small fork with dictated accuracies.

The folder has spaces and Chinese letters in its name; the slow proofs take older environments.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fake_gpus
import older_environments
import user_checkout

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "ten-minutes.md").read_text()

#: The weight of the pose loss decides how well the small fork does.
PARTS = """
from mmengine.logging import MessageHub
from mmengine.registry import METRICS, MODELS
from tiny_parts import TinyMetric, TinyModel


@MODELS.register_module()
class ForkModel(TinyModel):
    def __init__(self, cls_head, **kwargs):
        super().__init__(loss_weights=cls_head["loss_weights"], **kwargs)
        MessageHub.get_current_instance().update_info("pose", cls_head["loss_weights"][1])


@METRICS.register_module()
class ForkMetric(TinyMetric):
    def compute_metrics(self, results):
        good = MessageHub.get_current_instance().get_info("pose") < 2
        self.top1 = [0.886, 0.89, 0.892, 0.894, 0.896, 0.9, 0.911] if good else [0.884]
        return super().compute_metrics(results)
"""
CHANGES = {
    'imports=["tiny_parts"]': 'imports=["tiny_parts", "fork_parts"]',
    'type="TinyModel"': 'type="ForkModel"',
    "loss_weights=[1.0, 2.0]": "cls_head=dict(loss_weights=[1.0, 1.0, 0.5, 0.8])",
    'type="TinyMetric", top1=None, start=None': 'type="ForkMetric", start=0.8919',
    "custom_hooks = []": "custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc/rgb_top1')]",
}

#: What a real fork has beside that: its own mmaction with a head that may ask for a GPU while it
#: is built, hooks, and metrics named in Chinese.
FORK_PARTS = """
import mmaction
import mmaction.models.heads
from mmaction.registry import MODELS as HEADS

assert mmaction.__version__ == "1.1.0+lab", mmaction.__file__
ForkMetric.default_prefix = "精度"


@MODELS.register_module(force=True, name="ForkModel")
class LabModel(ForkModel):
    def __init__(self, cls_head, **kwargs):
        super().__init__(cls_head, **kwargs)
        head = dict(num_classes=2, in_channels=1, sharpness=1.5, cuda=cls_head["cuda"])
        self.cls_head = HEADS.get("ForkHead")(**head)

    def forward(self, *args, mode="tensor", **kwargs):
        found = super().forward(*args, mode=mode, **kwargs)
        if mode == "loss":  # every weight has a part in it
            found["loss_rgb"] += 0 * sum(one.sum() for one in self.cls_head.parameters())
        return found
"""
FORK_CHANGES = {
    '"fork_parts"]': '"fork_parts", "lab_parts"]',
    "0.5, 0.8])": "0.5, 0.8], cuda=False)",
    "acc/rgb_top1": "精度/rgb_top1",
    "custom_hooks = [": "custom_hooks = [dict(type='LabHook'), ",
}


pytestmark = pytest.mark.slow
#: Continuous integration runs the page in this environment.
THIS = pytest.param("this", marks=pytest.mark.sample)
OLDER = list(older_environments.TORCH)


@pytest.fixture(params=[THIS, "fork", *OLDER])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the document starts from: fork, failed run, weights, environment, two GPUs."""
    this = request.param in ("this", "fork")
    interpreter = sys.executable if this else older_environments.python_with(request.param)
    tmp_path = tmp_path / "我的 项目"
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    jobs, fork = ROOT / "tests" / "jobs", tmp_path / "mmaction-fork"
    (fork / "configs").mkdir(parents=True)
    shutil.copy(jobs / "tiny_parts.py", fork)
    (fork / "fork_parts.py").write_text(PARTS)
    text = (jobs / "tiny.py").read_text()
    for old, new in CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    (fork / "configs" / "pcan.py").write_text(text)
    if request.param == "fork":
        real_fork(fork)
    weights(fork)
    run = fork / "work_dirs" / "pcan" / "20260102_030405"
    run.mkdir()
    (run / "20260102_030405.log").write_text(failed_log(prefix(tmp_path)))
    driver = tmp_path / "driver"
    driver.mkdir()
    smi, python = fake_gpus.write(driver, interpreter)
    (tmp_path / "envs" / "mmaction" / "bin").mkdir(parents=True)
    (tmp_path / "envs" / "mmaction" / "bin" / "python").symlink_to(python)
    monkeypatch.setenv("PCAN_NVIDIA_SMI", str(smi))
    monkeypatch.setenv("PCAN_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def real_fork(fork: Path) -> None:
    """Make the small fork a checkout of MMAction2 with a version of its own."""
    user_checkout.fork(fork)
    version = fork / "mmaction" / "version.py"
    marked = re.sub(r"__version__ = .*", "__version__ = '1.1.0+lab'", version.read_text(), count=1)
    version.write_text(marked)
    config = fork / "configs" / "pcan.py"
    text = config.read_text()
    for old, new in FORK_CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text)
    (fork / "fork_parts.py").write_text(PARTS + FORK_PARTS)


def prefix(place: Path) -> str:
    """Return what the names of the fork's metrics begin with."""
    return "精度/" if (place / "mmaction-fork" / "mmaction").is_dir() else "acc/"


def weights(fork: Path) -> None:
    """Write the checkpoint that the fine-tune begins with."""
    folder = fork / "work_dirs" / "pcan"
    folder.mkdir(parents=True)
    program = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from tiny_parts import TinyModel; "
        "torch.save({'meta': {'epoch': 26}, 'state_dict': TinyModel().state_dict()}, sys.argv[2])"
    )
    words = [sys.executable, "-c", program, str(fork), str(folder / "epoch_26.pth")]
    subprocess.run(words, check=True)


def failed_log(prefix: str) -> str:
    """Return the failed run of the plan's history as MMEngine logs it."""
    stamp = "2026/01/02 03:04:05 - mmengine - INFO - "
    lines = [
        f"{stamp}Config:\nload_from = 'work_dirs/epoch_26.pth'\n"
        "train_cfg = dict(max_epochs=24, type='EpochBasedTrainLoop', val_interval=1)\n"
    ]
    for epoch in range(1, 12):
        top1 = max(0.8533, 0.8832 - 0.0299 * (epoch - 1) / 9)
        lr = 0.001 + 0.0018 * min(epoch - 1, 5)
        lines.append(f"{stamp}Epoch(train) [{epoch}][100/100]  lr: {lr:.4e}  loss: 1.0000")
        lines.append(f"{stamp}Epoch(val) [{epoch}][4/4]    {prefix}RGBPose_1:1_top1: {top1:.4f}")
    lines.append(f"{stamp}the monitored metric did not improve in the last 10 records.")
    return "\n".join(lines) + "\n"


def script(prefix: str) -> str:
    """Return the document's commands in order; the plan is cut from 30 epochs to 10."""
    plan = re.search(r"```yaml\n(.*?)```", DOC, re.S)
    assert plan is not None
    small = plan.group(1).replace("max_epochs: 30", "max_epochs: 10").replace("acc/", prefix)
    commands = "".join(re.findall(r"```sh\n(.*?)```", DOC, re.S))
    before, _, after = commands.partition("cd ntu\n")
    python = f'"{sys.executable}" -m pipeline.cli.main'
    return (
        f'set -ex\npcan() {{ {python} "$@"; }}\n{before}cd ntu\n'
        f"cat > sweeps/mine.yaml <<'END'\n{small}END\n{after}"
    )


def test_the_commands_of_the_page_do_what_it_describes(place: Path) -> None:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        ["bash", "-c", script(prefix(place))],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    logs = sorted((place / "ntu" / "runs" / "mine").glob("*.log"))
    text = done.stdout + done.stderr + "".join(log.read_text() for log in logs)
    assert done.returncode == 0, text
    for expected in (
        "early_stop_too_strict",
        "ntu/sweeps/pcan.yaml",
        "sweeps/pcan.yaml: 0 open",
        "EarlyStoppingHook, which is left out",
        "epoch 0",
        "The plan's next step: pose-1.5 (A).",
        "baseline/1 goes on where baseline/0 ended after epoch 5",
        "pose-1.5/0: top-1 91.10 %",
        "would be freed",
    ):
        assert expected in text, text
    assert "baseline/0 epoch 5/10" in (place / "ntu" / "events.txt").read_text()
    if prefix(place) != "acc/":
        run = place / "ntu" / "runs" / "mine" / "pose-1.5" / "0" / "mmengine" / "lab-0.txt"
        assert str(place / "mmaction-fork" / "mmaction") in run.read_text()
        assert "精度/RGBPose_1:1_top1" in (place / "ntu" / "sweeps" / "pcan.yaml").read_text()
