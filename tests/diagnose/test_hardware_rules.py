"""What a trial's run directory shows of hours lost on its GPUs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.rules.hardware import hardware_rules
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir


def gpu(index: int = 0, **fields: Any) -> dict[str, Any]:
    usual = {"use": 0.9, "idle": 0.0, "celsius": 60, "heat": 0.0, "supply": 0.0, "others": []}
    return {"index": index, "samples": 100, **usual, **fields}


def findings(folder: Path, waited: float, *gpus: dict[str, Any]) -> dict[str, str]:
    run = RunDir(folder)
    times = {"train": 100.0, "data": waited, "val": 5.0}
    lines = [Measurement(epoch=e, top1=0.5, times=times).to_line() for e in (1, 2, 3)]
    run.measurements.write_text("".join(lines))
    records = [{"epoch": e, "gpus": gpus} for e in (1, 2, 3)] if gpus else []
    run.gpus.write_text("".join(json.dumps(r) + "\n" for r in records))
    (rule,) = hardware_rules(folder)
    return {f.id: f.evidence for f in rule(make_case(read_log(folder)))}


def test_a_gpu_that_waits_for_samples_is_named_with_its_figures(tmp_path: Path) -> None:
    found = findings(tmp_path, 41.0, gpu(use=0.5), gpu(1, use=0.54))
    assert found == {
        "gpu_starved": "the GPU waits 41 % of the training of an epoch for samples (median of 2 "
        "epochs); the GPUs were at work 52 % of the time"
    }


def test_a_cpu_job_that_waits_for_samples_is_named_too(tmp_path: Path) -> None:
    assert findings(tmp_path, 41.0)["gpu_starved"].startswith("the training waits 41 %")


@pytest.mark.parametrize(
    ("change", "id", "words"),
    [
        ({"heat": 0.3, "celsius": 91}, "gpu_throttled", "slowed down by heat in 30 % of the"),
        ({"supply": 0.2}, "gpu_throttled", "slowed down by its power supply in 20 %"),
        ({"others": ["pid 7 (python)"]}, "gpu_shared", "GPU 1 was also used by pid 7 (python)"),
        ({"use": 0.5}, "gpu_unequal", "GPU 0 90 %, GPU 1 50 %"),
    ],
)
def test_what_slows_a_gpu_down_is_named(tmp_path: Path, change: dict, id: str, words: str) -> None:
    found = findings(tmp_path, 3.0, gpu(), gpu(1, **change))
    assert list(found) == [id] and words in found[id]


def test_two_gpus_at_work_and_a_little_waiting_are_healthy(tmp_path: Path) -> None:
    assert findings(tmp_path, 10.0, gpu(), gpu(1, use=0.8)) == {}


def test_a_gpu_with_few_samples_shows_nothing(tmp_path: Path) -> None:
    assert findings(tmp_path, 10.0, gpu(), gpu(1, use=0.1, heat=1.0, samples=2)) == {}


def test_a_log_without_such_figures_has_no_such_findings(tmp_path: Path) -> None:
    RunDir(tmp_path).measurements.write_text(Measurement(epoch=1, top1=0.5).to_line())
    (rule,) = hardware_rules(tmp_path)
    assert list(rule(make_case(read_log(tmp_path)))) == []
