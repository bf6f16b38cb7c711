"""`pcan sweep sync` as typed."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.sweep_files import sync as command
from pipeline.errors import InputError, TrackingError
from pipeline.track.wandb_server import NoServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with the shipped plan; its runs are what `job` makes."""
    shutil.copy(ROOT / "wandb.yaml", tmp_path)
    (tmp_path / "sweeps").mkdir()
    text = (ROOT / "sweeps" / "pcan_ntu60.yaml").read_text(encoding="utf-8")
    (tmp_path / "sweeps" / "demo.yaml").write_text(text.replace("name: pcan_ntu60", "name: demo"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sync(*arguments):
    return CliRunner().invoke(command, ["demo", *arguments])


def test_reports_each_trial(online, project, job):
    run = job()
    run.measure(1, 2)
    run.end("COMPLETE")
    first, second = sync(), sync("--json")
    url = f"{online.url}/lab/pcan/runs/{run.id}"
    assert first.stdout == f"baseline/0: sent, 2 epochs, {url}\n"
    [report] = json.loads(second.stdout)["trials"]
    assert (report["synced"], report["new"], report["sent"], report["url"]) == (
        True,
        False,
        2,
        url,
    )


def test_what_could_not_be_sent_is_an_error_that_loses_nothing(online, project, job):
    run = job()
    run.measure(1)
    run.end("COMPLETE")
    online.run(run.id).history = ['{"epoch": 5}']
    result = sync()
    assert isinstance(result.exception, TrackingError)
    assert "0 of 1 trial is complete on W&B" in str(result.exception)
    assert "baseline/0: 0 of 1 epoch is there." in result.stdout


def test_without_a_key_says_so_and_never_asks(online, project, job, monkeypatch):
    job().end("COMPLETE")
    monkeypatch.delenv("WANDB_API_KEY")
    result = sync()
    assert isinstance(result.exception, NoServer)
    assert "wandb login" in str(result.exception)


def test_nothing_to_send_needs_no_server(wandb_env, project):
    assert isinstance(sync().exception, InputError)  # there is no runs/demo


def test_sends_configs_and_the_winners_weights_when_asked(online, project, job):
    run = job()
    run.measure(1)
    run.end("COMPLETE")
    (run.folder / "config.py").write_text("lr = 0.003\n")
    export = project / "exports" / "demo"
    export.mkdir(parents=True)
    (export / "best.json").write_text(json.dumps({"variant": "baseline", "number": 0}))
    (export / "weights.pth").write_bytes(b"weights")
    result = sync("--with-config", "--with-weights")
    assert result.exception is None
    kinds = {a["artifactTypeName"] for a in online.artifacts}
    assert {"config", "weights"} <= kinds
    assert online.runs[run.id].epochs() == [1], "an artifact adds no row"
    assert online.runs[run.id].exits[-1] == 0


def test_no_artifact_unless_asked(online, project, job):
    run = job()
    run.measure(1)
    run.end("COMPLETE")
    sync()
    assert {a["artifactTypeName"] for a in online.artifacts} <= {"run_table"}
