"""Parameter importances are Optuna's own, and only shown where there are enough trials."""

from pathlib import Path

import numpy as np
import optuna
import pytest

from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import open_storage
from pipeline.study.importance import importances
from pipeline.study.register import recipe_of, register
from pipeline.study.trial_rows import read_board

TEXT = """\
name: s
config: c.py
objective: {metric: acc/top1}
variants:
  v:
    set: {lr: 1e-3, width: 1.5}
    space:
      lr: {low: 1e-4, high: 1e-1, log: true}
      width: {low: 1.0, high: 2.0}
  plain: {set: {lr: 1e-3}, space: {}}
ladder: {start: v}
"""


@pytest.fixture
def place(tmp_path: Path):
    (tmp_path / "s.yaml").write_text(TEXT)
    sweep = read_sweep(tmp_path / "s.yaml", tmp_path)
    storage = open_storage(None, tmp_path / "runs")
    register(sweep, storage, {n: recipe_of(v, "h") for n, v in sweep.variants.items()})
    yield sweep, storage
    storage.close()


def search(place, count: int) -> None:
    sweep, storage = place
    for _ in range(count):
        lease = claim(sweep, storage, [ClaimRequest(variant="v", trials=99, recipe_hash="h")])
        lr = np.log10(lease.params["lr"])
        top1 = 0.9 - 0.1 * (lr + 2) ** 2 + 0.001 * lease.params["width"]
        lease.begin("runs/s/v", "cpu", {})
        reported = {"cause": None, "reason": "", "verdicts": [], "seconds": 1.0}
        lease.tell("COMPLETE", [Measurement(epoch=1, top1=float(top1))], **reported)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_importances_are_optunas_own(place) -> None:
    sweep, storage = place
    search(place, 16)
    [found] = importances(sweep, read_board("s", storage))
    study = optuna.load_study(study_name="s/v", storage=storage.rdb)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert found["values"] == pytest.approx(theirs) and found["trials"] == 16
    assert max(found["values"], key=found["values"].get) == "lr"
    assert sum(found["values"].values()) == pytest.approx(1)
    assert "PED-ANOVA over 16 complete trials of 16" in found["sentence"]


def test_too_few_trials_are_said_so(place) -> None:
    sweep, storage = place
    search(place, 3)
    [found] = importances(sweep, read_board("s", storage))
    assert found["values"] is None
    assert found["sentence"] == (
        "v: which values mattered is unknown; it takes 10 complete trials, and there are 3."
    )
