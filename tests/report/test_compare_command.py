"""`pcan sweep compare` as typed."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.sweep_compare import command
from pipeline.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(ROOT / "wandb.yaml", tmp_path)
    shutil.copytree(ROOT / "sweeps", tmp_path / "sweeps")
    folder = tmp_path / "runs" / "pcan_ntu60" / "baseline" / "0"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({"variant": "baseline", "number": 0}))
    (folder / "measurements.jsonl").write_text('{"epoch": 1, "top1": 0.886}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*arguments):
    return CliRunner().invoke(command, arguments)


def test_writes_the_page_into_the_sweeps_folder_and_prints_where(project):
    result = compare()
    file = project / "runs" / "pcan_ntu60" / "compare.html"
    assert result.stdout == "runs/pcan_ntu60/compare.html\n" and file.is_file()
    assert "base config" in result.stderr, "why there is no true learning rate"
    assert result.stderr.endswith("1 trial, 0.3 MB\n")
    assert "baseline/0" in file.read_text(encoding="utf-8")


def test_out_says_where(project):
    assert compare("pcan_ntu60", "--out", "new/c.html").exception is None
    assert (project / "new" / "c.html").exists()


def test_json_is_the_pages_data(project):
    data = json.loads(compare("--json").stdout)
    assert (data["schema"], data["trials"][0]["id"]) == (1, "baseline/0")
    assert not (project / "runs" / "pcan_ntu60" / "compare.html").exists()


def test_outside_a_project_says_what_marks_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = compare()
    assert isinstance(result.exception, InputError)
    assert "wandb.yaml" in str(result.exception)
