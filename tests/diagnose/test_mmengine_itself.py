"""A log that MMEngine itself wrote: three epochs, then resumed and stopped by its own hook.

The training is real but tiny; its metric is dictated, so every value is known.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import examine

VALUES = {1: 0.1234567, 2: 0.5, 3: 0.6543211, 4: 0.6, 5: 0.5999, 6: 0.6, 7: 0.6002}
TRAIN = """
import json, sys, time
import numpy
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner

values = {int(k): v for k, v in json.loads(sys.argv[2]).items()}

class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))
    def forward(self, inputs, mode="tensor"):
        loss = (self.w - torch.stack(inputs)).pow(2).mean()
        return {"loss": loss} if mode == "loss" else [loss]

class Dictated(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)
    def compute_metrics(self, results):
        return {"top1": values[runner.epoch], "table": torch.eye(3), "mean1": 0.25}

data = dict(batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
loader = dict(dataset=[dict(inputs=torch.ones(1) * i) for i in range(8)], **data)
def make(epochs, resume):
    return Runner(
        model=Model(), work_dir=sys.argv[1], train_dataloader=loader, val_dataloader=loader,
        val_evaluator=[Dictated(prefix="acc")], val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        param_scheduler=[dict(type="CosineAnnealingLR", T_max=20, eta_min=1e-5, end=20)],
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        custom_hooks=[
            dict(type="EarlyStoppingHook", monitor="acc/top1", patience=3, min_delta=0.001)
        ],
        default_scope="mmengine", experiment_name=f"to {epochs}", resume=resume,
        cfg=dict(load_from=None, train_cfg=dict(by_epoch=True, max_epochs=epochs)),
    )

runner = make(3, False)
runner.train()
time.sleep(1.1)  # a run's folder is named by the second
# MMEngine cannot resume its own files on torch >= 2.6 without these.
arrays = numpy.core.multiarray
torch.serialization.add_safe_globals([
    HistoryBuffer, getattr, numpy.ndarray, numpy.dtype, arrays._reconstruct, arrays.scalar,
    *(type(numpy.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u8", "?")),
])
runner = make(20, True)
runner.train()
"""


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "work"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder), json.dumps(VALUES)],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_both_runs_are_joined_at_full_precision(work_dir: Path) -> None:
    curve = read_log(work_dir)
    assert {p.epoch: p.metrics["acc/top1"] for p in curve.validated} == VALUES
    assert {p.metrics["acc/mean1"] for p in curve.validated} == {0.25}
    assert "2 runs joined across resumes" in curve.notes


def test_the_text_log_alone_gives_four_digits(work_dir: Path) -> None:
    newest = max(work_dir.glob("*/*.log"))
    read = {p.epoch: p.metrics["acc/top1"] for p in read_log(newest).validated}
    assert read == {epoch: round(VALUES[epoch], 4) for epoch in (4, 5, 6, 7)}


def test_the_rates_are_the_schedules(work_dir: Path) -> None:
    import math

    for point in read_log(work_dir).points:
        true = 1e-5 + (0.01 - 1e-5) * (1 + math.cos(math.pi * (point.epoch - 1) / 20)) / 2
        assert point.lr == point.lr_end == pytest.approx(true, rel=1e-6)


def test_its_early_stopping_is_recognised(work_dir: Path) -> None:
    found = {f.id: f for f in examine(make_case(read_log(work_dir)))}
    assert "did not improve in the last 3 records" in found["stopped_early"].evidence
    assert ".log)" in found["stopped_early"].evidence  # the line is not one of scalars.json
    assert "13 of 20 planned epochs left" in found["early_stop_too_strict"].evidence
