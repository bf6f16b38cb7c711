"""The parts of `tiny.py`: a real MMEngine training of a tenth of a second an epoch.

Its metric can be dictated epoch by epoch and it fails on demand, so that tests of the
control side can run whole trials as real two-process jobs.
"""

import os
import random
import signal
import time
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.fileio import load
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS, VISUALIZERS
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class TinyDataset(Dataset):
    """Two classes of noisy vectors; the noise is drawn again each time, as augmentation is.

    Args:
        length: number of samples.
        seed: of the fixed part of the samples.
        bad_index: the sample that cannot be read; None for none.
        root: if given, a folder that must exist (a data set that may be missing).
        annotation: if given, a file that is read as MMAction2's data sets read theirs.
    """

    metainfo = {"classes": ["left", "right"]}

    def __init__(self, length=32, features=8, seed=0, bad_index=None, root=None, annotation=None):
        if root is not None and not os.path.isdir(root):
            raise FileNotFoundError(f"no data at {root}")
        self.annotation = load(annotation) if annotation is not None else None
        generator = np.random.RandomState(seed)
        self.labels = generator.randint(0, 2, length)
        self.inputs = generator.randn(length, features).astype("float32")
        self.inputs[:, 0] += 2 * self.labels - 1
        self.bad_index = bad_index

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if index == self.bad_index:
            raise OSError(f"clip_{index}.avi has 0 frames")
        noise = torch.randn(self.inputs.shape[1]) + np.random.randn() + random.random()
        inputs = torch.from_numpy(self.inputs[index]) + 0.1 * noise
        return {"inputs": inputs.float(), "label": int(self.labels[index])}


@MODELS.register_module()
class TinyModel(BaseModel):
    """A small network with everything a checkpoint has to carry: batch norm and dropout.

    Args:
        width: hidden size; the number of weights grows with its square.
        sleep: seconds added to each training iteration.
        sleep_val: seconds added to each validation batch.
        loss_weights: of the two branches, for overrides by index.
        fault: None, or {"kind": "raise|exit|kill|hang|stop|nan|oom|nan_weights",
            "rank": r, "epoch": e, "step": s}: what happens at iteration s (1-based, default
            1) of epoch e (1-based, default 1) on rank r (default 0; None: on all).
        deaf: whether the ranks ignore SIGTERM from the first step on.
    """

    def __init__(
        self,
        features=8,
        width=16,
        sleep=0.0,
        sleep_val=0.0,
        loss_weights=(1.0, 2.0),
        fault=None,
        deaf=False,
        data_preprocessor=None,
        init_cfg=None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.trunk = nn.Sequential(
            nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)
        )
        self.deep = nn.Linear(width, width)
        self.rgb, self.pose = nn.Linear(width, 2), nn.Linear(width, 2)
        self.sleep, self.sleep_val = sleep, sleep_val
        self.loss_weights = loss_weights
        self.deaf = deaf
        self.fault = dict(fault) if fault else None
        self._epoch = self._step = 0

    def forward(self, inputs, label, mode="tensor"):
        hidden = self.deep(self.trunk(inputs))
        rgb, pose = self.rgb(hidden), self.pose(hidden)
        if mode != "loss":
            time.sleep(self.sleep_val)
            return [
                {"pred_score": {"rgb": r, "pose": p}, "gt_label": t}
                for r, p, t in zip(rgb, pose, torch.as_tensor(label))  # noqa: B905
            ]
        if self.deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("this rank is deaf", flush=True)
        time.sleep(self.sleep)
        target = torch.as_tensor(label)
        factor = self._fault_now()
        return {
            "loss_rgb": self.loss_weights[0] * nn.functional.cross_entropy(rgb, target) * factor,
            "loss_pose": self.loss_weights[1] * nn.functional.cross_entropy(pose, target),
            "rgb_acc": (rgb.argmax(1) == target).float().mean(),
        }

    def _fault_now(self):
        """Carry out the fault if this is its moment; return a factor for the loss."""
        epoch = MessageHub.get_current_instance().get_info("epoch") + 1
        self._step = self._step + 1 if epoch == self._epoch else 1
        self._epoch = epoch
        fault = self.fault
        if not fault or (epoch, self._step) != (fault.get("epoch", 1), fault.get("step", 1)):
            return 1.0
        if fault.get("rank", 0) not in (None, get_rank()):
            return 1.0
        return getattr(self, f"_fault_{fault['kind']}")()

    def _fault_raise(self):
        raise RuntimeError("this rank is to fail")

    def _fault_exit(self):
        os._exit(0)

    def _fault_kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _fault_stop(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def _fault_hang(self):
        time.sleep(1e4)

    def _fault_nan(self):
        return float("nan")

    def _fault_oom(self):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 30.00 GiB.")

    def _fault_nan_weights(self):
        # A finite loss whose gradient is not: the step that follows breaks all weights.
        self.deep.weight.register_hook(lambda gradient: gradient * float("nan"))
        return 1.0


@MODELS.register_module()
class TinyVideoModel(TinyModel):
    """TinyModel whose trunk is made of 3-D convolutions, as those of videos are."""

    def __init__(self, features=8, width=16, **others):
        super().__init__(features, width, **others)
        self.trunk = nn.Sequential(
            nn.Unflatten(1, (1, 2, 2, 2)),
            # Flat: over two frames a deep one is wrong in bfloat16 on some CPUs (docs/speed.md).
            *(nn.Conv3d(1, width, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(width), nn.ReLU()),
            *(nn.Conv3d(width, width, 2), nn.Flatten(), nn.ReLU(), nn.Dropout(0.2)),
        )

    def _fault_now(self):
        return 1.0  # it reads nothing of a training's state, so a rehearsal can step it


@METRICS.register_module()
class TinyMetric(BaseMetric):
    """Top-1 as the model has it, or as dictated.

    Args:
        top1: one value an epoch, the first for epoch 1; after the last it stays. None:
            what the model really reaches.
        start: the value at epoch 0 (the check of the starting weights).
        branch: how much less the rgb and pose branches get than the fused one.
        names: how the three metrics are called, fused first.
    """

    default_prefix = "acc"

    def __init__(
        self,
        top1=None,
        start=None,
        branch=(0.02, 0.05),
        names=("RGBPose_1:1_top1", "rgb_top1", "pose_top1"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.top1, self.start, self.branch, self.names = top1, start, branch, names

    def process(self, _data_batch, data_samples):
        for sample in data_samples:
            scores, truth = sample["pred_score"], int(sample["gt_label"])
            logits = scores["rgb"] + scores["pose"], scores["rgb"], scores["pose"]
            self.results.append([float(int(x.argmax()) == truth) for x in logits])

    def compute_metrics(self, results):
        values = np.mean(results, axis=0).tolist()
        dictated = self._dictated(MessageHub.get_current_instance())
        if dictated is not None:
            values = [dictated] + [dictated - less for less in self.branch]
        return dict(zip(self.names, values), seen=len(results))  # noqa: B905

    def _dictated(self, hub):
        # MMEngine's hub still holds the index of the epoch just trained; it has no
        # training scalars before the first.
        if "train/loss" not in hub.log_scalars:
            return self.start
        if self.top1 is None:
            return None
        return self.top1[min(hub.get_info("epoch"), len(self.top1) - 1)]


@VISUALIZERS.register_module()
class TinyVisualizer(Visualizer):
    """Writes log files only; MMEngine's makes a figure at once, whose import takes 0.35 s."""

    def _initialize_fig(self, fig_cfg):
        return None, SimpleNamespace(get_dpi=lambda: 100), None
