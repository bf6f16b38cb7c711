"""`benchmarks/gpu.py` runs on the CPU with small numbers: parts here, the whole among the slow."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

SMALL = argparse.Namespace(device="cpu", small=True, minutes=7.0)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(gpu.__file__)), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_unknown_section_and_a_full_size_on_the_cpu_are_refused() -> None:
    done = run("--only", "step,steps")
    assert (
        done.returncode == 2 and 'there is no section "steps"; there are step, he' in done.stderr
    )
    done = run("--device", "cpu")
    assert done.returncode == 2 and "add --small" in done.stderr


def test_without_a_gpu_it_says_so_and_how_to_see_that_it_runs() -> None:
    done = run("--only", "heatmaps")
    if done.returncode != 5:
        pytest.skip("this machine has a GPU")
    assert "sees no GPU" in done.stderr and "--device cpu --small" in done.stderr


def test_a_section_that_fails_or_lasts_is_recorded_and_keeps_its_figures(tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"what": "a step", "value": 1.25, "unit": "ms"}\n')
    long = gpu.section("step", "gpu_steps.py", 1.0, SMALL, tmp_path / "long")
    broken = gpu.section("oom", "gpu_steps.py", 60.0, SMALL, tmp_path)  # knows no such section
    late = gpu.section("hang", "gpu_jobs.py", -3.0, SMALL, tmp_path)
    assert long["reason"] == "not done within 1 s" and "KeyError: 'oom'" in broken["reason"]
    assert late["reason"] == "not begun: the 7 minutes were over"
    broken["rows"] = gpu.rows_of(tmp_path / "rows.jsonl")
    record = {"machine": {"GPU": "X"}, "small": False, "seconds": 9.0, "sections": [broken, late]}
    lines = gpu.table(record).splitlines()
    assert "| oom | a step | 1.25 ms |  |" in lines and "| hang | **failed** | 0 s" in lines[-1]


def test_a_section_measures_on_the_cpu(tmp_path: Path) -> None:
    done = gpu.section("heatmaps", "gpu_data.py", 300.0, SMALL, tmp_path)
    found = {row["what"]: row for row in done["rows"]}
    assert done["state"] == "done", done["reason"]
    assert found["largest difference of a value"]["value"] < 1e-6
    assert found["joints copied and drawn there, a sample"]["of"] == "made in a loader"


@pytest.mark.slow
def test_the_whole_runs_on_the_cpu_with_small_numbers(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--small", "--out", str(tmp_path / "gpu.json"))
    record = json.loads((tmp_path / "gpu.json").read_text())
    states = {one["name"]: one["reason"] for one in record["sections"]}
    assert states == dict.fromkeys(gpu.SECTIONS), done.stderr
    assert done.returncode == 0 and "| launch | baseline/0, stopped by its gate" in done.stdout
