"""A researcher's own side: an environment with only torch and mm*, and a fork of MMAction2."""

import importlib.metadata
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

#: What MMAction2 needs; everything else of ours stays out.
ROOTS = ("torch", "mmaction2", "mmengine", "mmcv-lite", "importlib_metadata", "numpy")
LACKING = ("optuna", "wandb", "click", "pydantic", "sqlalchemy", "pipeline")

HEAD = '''
from mmaction.registry import MODELS
from .gcn_head import GCNHead


@MODELS.register_module()
class ForkHead(GCNHead):
    """A head that the released MMAction2 does not have."""

    def __init__(self, sharpness, cuda=False, **kwargs):
        super().__init__(**kwargs)
        self.sharpness = sharpness
        if cuda:
            self.cuda()

    def forward(self, x, **kwargs):
        return self.sharpness * super().forward(x, **kwargs)
'''
METRIC = '''
from mmaction.registry import METRICS
from .acc_metric import AccMetric


@METRICS.register_module()
class ForkMetric(AccMetric):
    """The same accuracy by another name."""

    default_prefix = "fork"

    def compute_metrics(self, results):
        found = super().compute_metrics(results)
        return {"right": found.get("RGBPose_1:1_top1", found.get("top1"))}
'''
LAB = '''
import mmaction.models.heads
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class LabHook(Hook):
    """A hook of the lab's own that has to go on working."""

    def after_train_epoch(self, runner):
        with open(runner.work_dir + f"/lab-{runner.rank}.txt", "a") as stream:
            stream.write(f"{runner.epoch} {mmaction.models.heads.__file__}\\n")


@HOOKS.register_module()
class LabStop(EarlyStoppingHook):
    """Early stopping by a name of the lab's own."""
'''
LAB_HEAD = '''
from mmaction.registry import MODELS
from pipeline.train.model.head import PCANHead


@MODELS.register_module()
class LabHead(PCANHead):
    """The plan's head with one more setting."""

    def __init__(self, sharpness, **kwargs):
        super().__init__(**kwargs)
        self.sharpness = sharpness
'''
#: As MMAction2's own program takes its words.
TEST_PROGRAM = """
import argparse

from mmengine.config import Config
from mmengine.runner import Runner

parser = argparse.ArgumentParser()
parser.add_argument("config")
parser.add_argument("checkpoint")
parser.add_argument("--work-dir")
words = parser.parse_args()
config = Config.fromfile(words.config)
config.load_from, config.work_dir = words.checkpoint, words.work_dir
Runner.from_cfg(config).test()
"""
CONFIG = """
custom_imports = dict(imports=['lab_parts'], allow_failed_imports=False)
default_scope = 'mmaction'
resume = True
model = dict(
    type='RecognizerGCN',
    backbone=dict(
        type='STGCN', graph_cfg=dict(layout='coco', mode='stgcn_spatial'),
        base_channels=8, num_stages=2, inflate_stages=[], down_stages=[]),
    cls_head=dict(type='ForkHead', num_classes=2, in_channels=8, sharpness=1.5))
_steps = [
    dict(type='PreNormalize2D'),
    dict(type='GenSkeFeat', dataset='coco', feats=['j']),
    dict(type='UniformSampleFrames', clip_len=8),
    dict(type='PoseDecode'),
    dict(type='FormatGCNInput', num_person=1),
    dict(type='PackActionInputs')]
# Fixed frames: another process measures the same.
_fixed = [{**step, 'test_mode': True} if 'clip_len' in step else step for step in _steps]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='PoseDataset', ann_file='ann.pkl', split='train', pipeline=_steps))
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PoseDataset', ann_file='ann.pkl', split='val', pipeline=_fixed, test_mode=True))
val_evaluator = dict(type='ForkMetric')
test_dataloader, test_evaluator, test_cfg = val_dataloader, val_evaluator, dict()
load_from = 'another/epoch_3.pth'
train_cfg = dict(by_epoch=True, max_epochs=9, val_begin=1, val_interval=1)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
custom_hooks = [
    dict(type='LabHook'),
    dict(type='LabStop', monitor='fork/right', rule='greater', patience=1),
    dict(type='EarlyStoppingHook', monitor='fork/right', patience=1)]
visualizer = dict(
    type='ActionVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend')])
"""

#: The demo's config as a lab would change it: its head, its metric and its hook in place of ours.
DEMO = """
_base_ = 'configs/pcan_demo.py'
custom_imports = dict(
    imports=['pipeline.train.model', 'pipeline.train.transforms', 'lab_parts', 'lab_head'],
    allow_failed_imports=False)
model = dict(cls_head=dict(type='LabHead', sharpness=1.0))
val_evaluator = [dict(type='ForkMetric')]
test_evaluator = val_evaluator
custom_hooks = [dict(type='LabHook')]
"""


def second_environment(folder: Path) -> Path:
    """Make a virtual environment that sees MMAction2 and what it needs, and nothing of ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in needed(ROOTS):
        distribution = importlib.metadata.distribution(name)
        for part in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            target = site / part
            source = Path(str(distribution.locate_file(part)))
            if source.exists() and not target.exists() and not part.endswith(".pth"):
                target.symlink_to(source)
    return folder / "bin" / "python"


def needed(roots: tuple[str, ...]) -> set[str]:
    """Return these distributions and all that they require, as far as installed."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = re.split(r"[^\w.-]", waiting.pop(), maxsplit=1)[0].lower()
        if name in found:
            continue
        try:
            requires = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [text for text in requires if "extra ==" not in text]
    return found


def fork(folder: Path) -> Path:
    """Make a checkout of MMAction2 with a head, a metric and modules of its own."""
    import importlib.util

    spec = importlib.util.find_spec("mmaction")
    assert spec is not None and spec.origin is not None
    package = folder / "mmaction"
    ignored = shutil.ignore_patterns(".mim", "__pycache__")
    shutil.copytree(Path(spec.origin).parent, package, ignore=ignored)
    heads, metrics = package / "models" / "heads", package / "evaluation" / "metrics"
    (heads / "fork_head.py").write_text(HEAD)
    (metrics / "fork_metric.py").write_text(METRIC)
    append(heads / "__init__.py", "from .fork_head import ForkHead")
    append(metrics / "__init__.py", "from .fork_metric import ForkMetric")
    drn = package / "models" / "localizers" / "drn"  # a checkout has it, the wheel does not
    drn.mkdir(exist_ok=True)
    (drn / "__init__.py").touch()
    (drn / "drn.py").write_text("class DRN:\n    theirs = True\n")
    (folder / "lab_parts.py").write_text(LAB)
    (folder / "lab_head.py").write_text(LAB_HEAD)
    (folder / "tools").mkdir()
    (folder / "tools" / "test.py").write_text(TEST_PROGRAM)
    return folder


def append(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}\n{line}\n")


def poses(file: Path) -> None:
    """Write 24 skeleton clips of two actions: moving left and moving right."""
    generator = np.random.RandomState(0)
    annotations = []
    for index in range(24):
        label = index % 2
        start = 100 + 20 * generator.rand(1, 1, 17, 2)
        path = np.linspace(0, 60 if label else -60, 12).reshape(1, 12, 1, 1) * [1, 0]
        annotations.append(
            {
                "frame_dir": f"clip{index}",
                "label": label,
                "img_shape": (240, 320),
                "original_shape": (240, 320),
                "total_frames": 12,
                "keypoint": (start + path + generator.rand(1, 12, 17, 2)).astype("float32"),
                "keypoint_score": np.ones((1, 12, 17), "float32"),
            }
        )
    names = [annotation["frame_dir"] for annotation in annotations]
    split = {"train": names[:16], "val": names[16:]}
    file.write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
