"""Logs as MMEngine writes them, made of the numbers a test names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

#: The failed run of the plan's history: 88.32 % at epoch 1, sinking to 85.33 % at epoch 10;
#: epoch 11 is no better.
FAILED = [round(0.8832 - (0.8832 - 0.8533) * i / 9, 4) for i in range(10)] + [0.8533]
METRIC = "acc/RGBPose_1:1_top1"
STAMP = "2026/01/02 03:04:05 - mmengine - INFO - "

MakeLog = Callable[..., str]


def legacy_lr(epoch: int) -> float:
    """The rate of the failed run: warm-up 0.001 -> 0.01 in 5 epochs, then a cosine of 19."""
    import math

    if epoch <= 5:
        return 0.001 + 0.009 * (epoch - 1) / 5
    return 1e-5 + (0.01 - 1e-5) * (1 + math.cos(math.pi * (epoch - 6) / 19)) / 2


def config_text(**changes: str) -> str:
    """A configuration as the log prints it."""
    lines = {
        "custom_hooks": "[dict(min_delta=0.001, monitor='acc/RGBPose_1:1_top1', patience=10, "
        "type='EarlyStoppingHook')]",
        "load_from": "'work_dirs/epoch_26.pth'",
        "model": "dict(cls_head=dict(num_classes=60, type='RGBPoseHead'), type='X')",
        "optim_wrapper": "dict(\n    optimizer=dict(lr=0.01, momentum=0.9, type='SGD'))",
        "resume": "False",
        "train_cfg": "dict(\n    max_epochs=24, type='EpochBasedTrainLoop', val_interval=1)",
    } | changes
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def make_log(
    top1: Sequence[float | None],
    *,
    lr: Callable[[int], float] = legacy_lr,
    loss: Callable[[int], float] = lambda epoch: 1.0,
    more: Mapping[str, Sequence[float]] | None = None,
    config: str | None = None,
    first: int = 1,
) -> str:
    """An MMEngine log: header, then training and validation of each epoch.

    Args:
        top1: the fused metric by epoch; None: not validated.
        more: further metrics by name.
        config: the printed configuration; None: `config_text()`; "": no header at all.
    """
    text = config_text() if config is None else config
    lines = [f"{STAMP}Config:\n{text}"] if text else []
    for i, value in enumerate(top1):
        epoch = first + i
        lines.append(
            f"{STAMP}Epoch(train) [{epoch:>3}][100/100]  lr: {lr(epoch):.4e}  eta: 0:05:16  "
            f"time: 0.4303  data_time: 0.0191  memory: 8164  loss: {loss(epoch):.4f}"
        )
        if value is None:
            continue
        named = {METRIC: value} | {name: values[i] for name, values in (more or {}).items()}
        shown = "  ".join(f"{name}: {number:.4f}" for name, number in named.items())
        lines.append(
            f"{STAMP}Epoch(val) [{epoch}][4/4]    {shown}  data_time: 0.0471  time: 0.1819"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def mmengine_log() -> MakeLog:
    return make_log


@pytest.fixture(scope="session")
def failed_values() -> list[float]:
    return list(FAILED)


@pytest.fixture
def failed_run(tmp_path: Path) -> Path:
    """The failed run as a work dir: early stopping says its word at the end."""
    stop = (
        f"{STAMP}the monitored metric did not improve in the last 10 records. best score: 0.883. "
    )
    folder = tmp_path / "work_dirs" / "failed" / "20260102_030405"
    folder.mkdir(parents=True)
    (folder / "20260102_030405.log").write_text(make_log(FAILED) + stop + "\n")
    return folder.parent


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped plan and a small base config, as working directory."""
    folder = tmp_path / "project"
    for name in ("sweeps", "configs"):
        (folder / name).mkdir(parents=True)
    shipped = (root / "sweeps" / "pcan_ntu60.yaml").read_text()
    (folder / "sweeps" / "pcan_ntu60.yaml").write_text(shipped)
    (folder / "wandb.yaml").write_text("project: x\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def real_logs() -> list[Path]:
    """The real logs, by PCAN_DATA or beside the project."""
    import os

    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("PCAN_DATA") or beside) / "logs"
    if not folder.is_dir():
        pytest.skip(f"real logs absent: no folder {folder} (set PCAN_DATA)")
    return sorted(path for path in folder.iterdir() if path.is_file())
