"""Trials of a small real network, trained in one process, as a refinement finds them."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from pipeline.job.slots import cpu_slots
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.refine.refinement import RefineRequest
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Phase, State
from pipeline.study.trial_rows import TrialRow

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
name: tiny
config: jobs/tiny.py
objective:
  metric: acc/RGBPose_1:1_top1
  branches: {rgb: acc/rgb_top1, pose: acc/pose_top1}
job: {gpus: 2, code_root: jobs}
warm_start: {checkpoint: start.pth}
variants: {a: {}, b: {}, wide: {}, elsewhere: {}, cold: {}}
ladder: {start: a}
"""
#: Trains each run directory that is named, one after another.
TRAIN = """\
import sys
from pathlib import Path
from pipeline.train.rank_process import log_to
from pipeline.train.compat import prepare_mmaction
prepare_mmaction()
from mmengine.logging import MessageHub
from pipeline.shared.rundir import RunDir
from pipeline.train.outcome import Stage
from pipeline.train.run import run_job
for folder in sys.argv[1:]:
    MessageHub._instance_dict.clear()
    run = RunDir(folder)
    run_job(run, run.read_spec(), Stage())
"""
VARIANTS: dict[str, dict[str, Any]] = {
    "a": {},
    "b": {"optim_wrapper.optimizer.lr": 0.02},
    "wide": {"model.width": 24},
    "elsewhere": {"train_dataloader.dataset.seed": 5},
    "cold": {},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A project with trained trials."""

    project: Project
    rows: list[TrialRow]

    def request(self, *names: str, progress: Any = lambda *_: None) -> RefineRequest:
        """Return the request to refine the first of these trials, with the others."""
        rows = [next(row for row in self.rows if row.variant == name) for name in names]
        sweep = read_sweep(self.project.root / "sweeps" / "tiny.yaml", self.project.root)
        return RefineRequest(
            sweep=sweep,
            project=self.project,
            rows=rows,
            winner=rows[0],
            count=len(rows),
            slots=cpu_slots(1),
            progress=progress,
        )

    def run(self, name: str) -> RunDir:
        return RunDir(self.project.root / "runs" / "tiny" / name / "0")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two trials that can be averaged, and three that cannot, each for its own reason."""
    root = tmp_path_factory.mktemp("refine")
    (root / "sweeps").mkdir()
    (root / "sweeps" / "tiny.yaml").write_text(SWEEP)
    (root / "wandb.yaml").write_text("")
    (root / "jobs").symlink_to(tiny_run.JOBS)
    folders = [_make(root, name) for name in VARIANTS]
    log = root / "log"
    assert tiny_run.run_code(TRAIN, *folders, log=log, cwd=root) == 0, log.read_text()[-3000:]
    rows = [_row(root, name, number) for number, name in enumerate(VARIANTS)]
    return Trained(project=Project(root), rows=rows)


def _make(root: Path, name: str) -> Path:
    overrides = {"train_cfg.max_epochs": 3, "val_dataloader.dataset.length": 60} | VARIANTS[name]
    start = None if name == "cold" else {"checkpoint": "start.pth", "on_mismatch": "skip"}
    rundir = tiny_run.make_run(
        root / "runs" / "tiny" / name / "0",
        overrides,
        nproc=1,
        variant=name,
        averaged_checks=[2] if name == "a" else [],  # as a search's trial: keeps `later_weights`
    )
    record = json.loads(rundir.spec.read_text())
    # The network begins as its seed says, alike in all; the recorded start is what is compared.
    rundir.spec.write_text(json.dumps({**record, "recorded_start": start}))
    return rundir.root


def _row(root: Path, name: str, number: int) -> TrialRow:
    run = RunDir(root / "runs" / "tiny" / name / "0")
    record = json.loads(run.spec.read_text())
    run.spec.write_text(json.dumps({**record, "warm_start": record.pop("recorded_start")}))
    measured = run.read_measurements()
    best = max(measured, key=lambda m: (m.top1, -m.epoch))
    values: dict[str, Any] = {
        field.name: None for field in dataclasses.fields(TrialRow) if field.name != "averaged"
    }
    known = {
        "trial_id": number, "variant": name, "number": 0, "state": State.COMPLETE,
        "phase": Phase.DONE, "params": {}, "attempt": 1, "verdicts": [], "facts": {},
        "run_dir": str(run.root.relative_to(root)), "epoch": measured[-1].epoch, "seconds": 1.0,
        "best_top1": best.top1, "best_epoch": best.epoch,
    }  # fmt: skip
    return TrialRow(**{**values, **known})


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
