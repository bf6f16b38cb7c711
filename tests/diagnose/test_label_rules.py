"""A trial whose predictions fit other labels: seen by launch, `status` and `diagnose --trial`."""

import array
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.diagnose.log_case import LogCase
from pipeline.diagnose.rules.label_fit import labels_of
from pipeline.launch.record_reporters import LabelReporter
from pipeline.launch.reporters import LineReporter, Reporter, Reporters
from pipeline.plan.gates import Gate
from pipeline.plan.judge import Rules
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.report.status.text import label_lines
from pipeline.shared.measurement import Measurement
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir

VERDICT = Verdict(epoch=0, top1=0.5, kind=VerdictKind.GO, reason="")
GATES = Rules(gates=(Gate(epoch=2, floor=0.1),), patience=None)


def keep(run: RunDir, epoch: int, share: float) -> None:
    """Write an epoch whose pose branch says label - 1 in this share of the clips."""
    rng = np.random.default_rng(epoch)
    labels = rng.integers(0, 8, 300)
    lower = np.where(rng.random(300) < share, np.maximum(labels - 1, 0), labels)
    columns = [array.array("H", one.tolist()) for one in (labels, lower)]
    made = Predictions(epoch, "m", 1.0, "x", columns[0], columns[0], 8, {"pose": columns[1]})
    run.predictions.mkdir(exist_ok=True)
    run.predictions_of(epoch).write_bytes(made.to_bytes())


def audited(reporter: Reporter, run: RunDir, *epochs: int, last: int = 4) -> None:
    """Report epochs of one trial, as a launch does after each."""
    trial = SimpleNamespace(rundir=run, name="baseline/0", rules=GATES, epochs=last)
    for epoch in epochs:
        reporter.on_trial_result(trial, Measurement(epoch=epoch, top1=0.5), VERDICT)


def test_a_launch_audits_the_start_the_gates_and_the_end(tmp_path: Path) -> None:
    run, said = RunDir(tmp_path), list[str]()
    for epoch in range(5):
        keep(run, epoch, 0.0)
    audited(LabelReporter(said.append), run, *range(5))
    assert [record["epoch"] for record in run.read_labels()] == [0, 2, 4] and said == []


def test_a_mismatch_is_said_once_with_its_numbers_and_kept(tmp_path: Path) -> None:
    run, said = RunDir(tmp_path), list[str]()
    for epoch in (0, 2):
        keep(run, epoch, 0.9)
    audited(LabelReporter(said.append), run, 0, 2, last=9)
    assert len(said) == 2 and said[0].startswith(
        "baseline/0 epoch 0: label_mismatch: the pose branch agrees with label - 1 in "
    )
    assert "of 300 clips, with the label in" in said[0] and "pcan doctor" in said[1]
    (found,) = run.read_labels()[1]["findings"]
    assert found["branch"] == "pose" and found["agrees"] > 0.7 > 0.3 > found["label_agrees"]


def test_a_damaged_or_missing_file_ends_no_launch(tmp_path: Path) -> None:
    run, said = RunDir(tmp_path), list[str]()
    audited(LabelReporter(said.append), run, 0)
    run.predictions.mkdir()
    run.predictions_of(0).write_bytes(Predictions.MAGIC + b"{}")
    audited(LabelReporter(said.append), run, 0)
    assert run.read_labels() == [] and said == []


def test_an_audit_that_fails_ends_no_launch(tmp_path: Path, monkeypatch) -> None:
    """It is one reporter of several: what it raises is said once, and the others go on."""
    run, said = RunDir(tmp_path), list[str]()
    keep(run, 0, 0.0)
    monkeypatch.setattr("pipeline.plan.label_audit.audit", lambda _: 1 / 0)
    audited(Reporters(LineReporter(said.append), LabelReporter(said.append)), run, 0, 0)
    assert [line for line in said if "LabelReporter failed" in line] == [
        "LabelReporter failed: ZeroDivisionError: division by zero. Training goes on."
    ]


def findings(run: RunDir) -> list[Any]:
    case = LogCase(curve=None, series=None, branches={})  # type: ignore[arg-type]
    return list(labels_of(run.root)(case))


def test_diagnose_reads_kept_files_and_audits_of_files_that_are_gone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    keep(run, 0, 0.9)
    audited(LabelReporter(print), run, 0)
    run.predictions_of(0).unlink()
    keep(run, 3, 0.9)
    (found,) = findings(run)
    assert (found.id, found.severity, found.epoch) == ("label_mismatch", "error", 3)
    assert "label - 1" in found.evidence and "(found since epoch 0)" in found.evidence
    keep(run, 3, 0.0)
    assert findings(run)[0].epoch == 0


@pytest.mark.parametrize("line", ["{}\n", '{"epoch": "x"}\n', "[1]\n", '{"epoch": 1, "find'])
def test_torn_audits_are_left_out(tmp_path: Path, line: str) -> None:
    run = RunDir(tmp_path)
    run.labels.write_text(line)
    assert findings(run) == []


def test_status_names_the_trial_the_numbers_and_the_next_command() -> None:
    found = {"epoch": 5, "sentence": "the pose branch agrees with label - 1 in 84.8 % of 99 clips"}
    trial = {"number": 0, "label_mismatch": found}
    record = {"sweep": "s", "studies": [{"variant": "baseline", "trials": [trial]}]}
    assert label_lines(json.loads(json.dumps(record))) == [
        f"baseline/0 label_mismatch at epoch 5: {found['sentence']}. See: pcan diagnose --plan s "
        "--trial baseline/0"
    ]
