"""Overruling a verdict: a finished trial is continued as a new one, a running one is let go on."""

import contextlib
import json
import sqlite3
from types import SimpleNamespace

import pytest

from pipeline.errors import InputError
from pipeline.manage import continue_trial

BASELINE = "  baseline: {set: {train_cfg.max_epochs: 3, val_evaluator.top1: [0.4, 0.7, 0.8]}}\n"


@pytest.fixture(scope="module")
def pruned(module_project):
    """A project whose only trial was stopped by a gate."""
    module_project.ranks = 1
    module_project.sweep(BASELINE)
    assert module_project.launch("--variant", "baseline").returncode == 3
    return module_project


def test_nothing_eligible_is_said_and_has_its_exit_code(pruned) -> None:
    best = pruned.call("sweep", "best", "tiny")
    assert best.returncode == 3 and "Traceback" not in best.stderr
    assert "no complete trial to export (1 pruned)" in best.stderr
    assert "pcan sweep best tiny --trial baseline/0" in best.stderr
    forced = pruned.call("sweep", "best", "tiny", "--trial", "baseline/0", "--json")
    assert json.loads(forced.stdout)["eligible"] is False


def test_a_pruned_trial_goes_on_as_a_new_one_from_its_checkpoint(pruned) -> None:
    project = pruned
    refused = project.call("sweep", "continue", "baseline/7", "--sweep", "tiny")
    assert refused.returncode == 2 and "it has: baseline/0" in refused.stderr

    (project.folder("baseline/1") / "checkpoints").mkdir(parents=True)
    in_the_way = project.call("sweep", "continue", "baseline/0", "--sweep", "tiny")
    assert in_the_way.returncode == 5 and "baseline/1 cannot be made" in in_the_way.stderr

    done = project.call("sweep", "continue", "baseline/0", "--sweep", "tiny")
    assert done.returncode == 0, done.stderr
    assert "baseline/2 goes on where baseline/0 ended after epoch 1" in done.stderr
    twice = project.call("sweep", "continue", "baseline/0", "--sweep", "tiny")
    assert twice.returncode == 2 and "continued as baseline/2 already" in twice.stderr

    launched = project.launch()
    assert launched.returncode == 0, launched.stderr
    assert "baseline/2 starts on the CPU, going on after epoch 1" in launched.stderr
    trials = project.status()
    assert (trials["baseline/0"]["state"], trials["baseline/0"]["epochs"]) == ("PRUNED", 1)
    new = trials["baseline/2"]
    assert (new["state"], new["epochs"], new["continues"]) == ("COMPLETE", 3, "baseline/0")
    assert project.epochs("baseline/2") == [1, 2, 3]
    (overruled,) = json.loads((project.folder("baseline/2") / "overruled.json").read_text())[
        "overruled"
    ]
    assert overruled["rule"] == "epoch 1 floor" and overruled["by"] and overruled["time"]
    assert any("(overruled)" in verdict["reason"] for verdict in new["verdicts"])
    check_storage(project)

    nothing = project.call("sweep", "continue", "baseline/2", "--sweep", "tiny")
    assert nothing.returncode == 2 and "has run all its 3 epochs" in nothing.stderr


def check_storage(project) -> None:
    """Optuna's own tables tell the same: who overruled what, the old epochs, the jump."""
    with contextlib.closing(sqlite3.connect(project.root / "runs" / "pcan.db")) as db:
        attrs = dict(
            db.execute("SELECT key, value_json FROM trial_user_attributes WHERE trial_id=3")
        )
        steps = db.execute("SELECT step FROM trial_intermediate_values WHERE trial_id=3")
        assert sorted(step for (step,) in steps) == [1, 2, 3]
        ((meta,),) = db.execute("SELECT value_json FROM study_user_attributes WHERE key='pcan'")
    assert json.loads(attrs["continues"]) == "baseline/0"
    assert json.loads(attrs["overruled"])[0]["rule"] == "epoch 1 floor"
    jump, *_ = json.loads(meta)["history"]
    assert jump["chosen"] == "launch --variant" and jump["by"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_value_that_is_not_finite_is_not_overruled(monkeypatch, finished: bool) -> None:
    """Also while the trial's job still runs: no rule could be taken away that stops it."""
    verdict = {"verdict": "prune", "epoch": 2, "rule": "non-finite metric"}
    row = SimpleNamespace(
        name="v/0", finished=finished, superseded=False, cause=None, state="", verdicts=[verdict]
    )
    monkeypatch.setattr(continue_trial, "_row", lambda *_: row)
    with pytest.raises(InputError, match="v/0 ended with a value that is not finite, so its"):
        continue_trial.continue_trial(*[SimpleNamespace()] * 3, "v/0")
