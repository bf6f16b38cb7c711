"""What a trial's GPUs did is summed over its epochs, and stands in page, table and appendix."""

import json

import pytest

from pipeline.report.compare.compare_record import collect
from pipeline.report.compare.compare_trials import gpu_use
from pipeline.report.paper.appendix import appendix
from pipeline.report.paper.methods import methods
from pipeline.report.paper.paper_tables import result_rows
from pipeline.report.paper.sweep_summary import summary_of
from pipeline.results import open_sweep
from pipeline.shared.rundir import RunDir
from recorded_sweep import record_trial


def sampled(samples, **figures):
    nothing = dict.fromkeys(("use", "idle", "peak_mib", "wh", "celsius", "heat", "supply"))
    return {"index": 0, "name": "X", "samples": samples, **nothing, **figures}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A sweep of a trial on two GPUs and one whose driver says nothing but the use."""
    folder = tmp_path_factory.mktemp("project") / "runs" / "lab"
    run = RunDir(record_trial(folder, "baseline", 0, [0.5, 0.6]))
    epochs = [
        [sampled(30, use=0.9, idle=0.1, peak_mib=4000, wh=10.0), sampled(0)],
        [sampled(10, use=0.5, idle=0.5, peak_mib=6000, wh=2.5), "damaged"],
    ]
    lines = [json.dumps({"epoch": n, "gpus": gpus}) for n, gpus in enumerate(epochs, 1)]
    run.gpus.write_text("\n".join([*lines, '{"epoch": 3, "gpus": [']))
    other = RunDir(record_trial(folder, "other", 0, [0.4]))
    other.gpus.write_text(json.dumps({"epoch": 1, "gpus": [sampled(5, use=0.2)]}) + "\n")
    record_trial(folder, "cpu", 0, [0.3])
    return folder


def test_figures_are_weighted_by_samples_and_energy_is_summed(runs):
    assert gpu_use(RunDir(runs / "baseline" / "0")) == {
        "use": 0.8, "idle": 0.2, "peak_mib": 6000, "wh": 12.5,
    }  # fmt: skip
    unknown = {"use": 0.2, "idle": None, "peak_mib": None, "wh": None}
    assert gpu_use(RunDir(runs / "other" / "0")) == unknown
    assert gpu_use(RunDir(runs / "cpu" / "0")) is None


def test_page_table_and_report_have_them(runs):
    data = collect(runs)
    assert [trial["gpu"] is None for trial in data["trials"]] == [False, True, False]
    summary = summary_of(data)
    row = result_rows(summary)[0]
    assert (row["gpu_use"], row["gpu_idle"], row["gpu_wh"]) == (0.8, 0.2, 12.5)
    text = appendix(summary, open_sweep(runs), None, None)
    assert "| baseline/0 | 80 | 20 | 6000 | 12 |" in text and "| other/0 | 20 |  |  |  |" in text
    assert "0.01 kWh of the GPUs of 1" in methods(summary, None)[0]
