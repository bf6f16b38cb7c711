"""What the comparison page is given, and what the file promises: small, closed, inert."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.report.compare.compare_record import StoredFacts, collect
from pipeline.report.compare.page import LIBRARY, SCRIPTS, build_page
from pipeline.report.paper.sweep_summary import summary_of
from pipeline.report.words import translate
from pipeline.results import open_sweep
from pipeline.shared.files import append_line, write_json
from pipeline.shared.measurement import Measurement
from pipeline.study.best import best_row
from written_rows import row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "pipeline" / "report" / "compare" / "static"
GATES = [{"epoch": 1, "floor": 0.88, "target": 0.885}, {"epoch": 10, "floor": "best_known"}]
BANDS = [{"epoch": 1, "lr": 0.003, "top1": [0.885, 0.895]}, {"epoch": 30, "top1": [0.91, 0.915]}]


def trial(sweep_dir, variant, number=0, epochs=(), state=None, values=None, verdicts=(), **spec):
    folder = sweep_dir / variant / str(number)
    folder.mkdir(parents=True)
    base = {"sweep": sweep_dir.name, "variant": variant, "number": number, "epochs": 30}
    base |= {"gates": GATES, "bands": BANDS, "goal": 0.91, "best_known": 0.8919, "nproc": 2}
    write_json(folder / "spec.json", {**base, "values": values or {}, **spec}, durable=False)
    lines = [
        Measurement(epoch=e, top1=top1, lr=0.003, rgb_top1=top1 - 0.01, seconds=900).to_line()
        for e, top1 in epochs
    ]
    (folder / "measurements.jsonl").write_text("".join(lines))
    for verdict in verdicts:
        append_line(folder / "verdicts.jsonl", json.dumps(verdict))
    if state:
        outcome = {"state": state, "cause": "gate", "reason": "under the floor"}
        write_json(folder / "outcome.json", outcome, durable=False)
    return folder


@pytest.fixture
def sweep_dir(tmp_path):
    folder = tmp_path / "runs" / "pcan_ntu60"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def plan():
    return read_sweep(ROOT / "sweeps" / "pcan_ntu60.yaml", ROOT)


def test_collects_curves_plan_and_verdicts(sweep_dir):
    stop = {"epoch": 1, "top1": 0.87, "verdict": "prune", "rule": "epoch 1 floor", "reason": "x"}
    trial(sweep_dir, "baseline", epochs=[(0, 0.8919), (1, 0.87)], state="PRUNED", verdicts=[stop])
    data = collect(sweep_dir)
    [found] = data["trials"]
    assert found["epochs"] == [0, 1]
    assert found["top1"] == [0.8919, 0.87]
    assert found["rgb"] == [0.8819, 0.86]
    assert found["pose"] == [None, None]
    assert (found["state"], found["phase"], found["reason"]) == (
        "PRUNED",
        "done",
        "under the floor",
    )
    assert found["verdicts"][0]["rule"] == "epoch 1 floor"
    assert found["gpu_hours"] == 1.0
    assert data["variants"][0]["gates"][1]["floor"] == 0.8919
    assert data["goal"] == 0.91


def test_the_winner_is_that_of_best_also_among_equal_readings(sweep_dir, plan):
    curve = [(1, 0.9), (2, 0.91)]
    for variant in ("pose-1.5", "baseline", "lr-0.02"):
        trial(sweep_dir, variant, 0, curve, "COMPLETE")
    trial(sweep_dir, "baseline", 1, curve, "COMPLETE")
    trial(sweep_dir, "baseline", 2, [(1, 0.95)], "PRUNED")
    data = collect(sweep_dir, plan)
    rows = [row(t["variant"], t["number"], 0.91) for t in data["trials"] if t["id"][-1] != "2"]
    assert best_row(plan, rows[::-1]).name == data["best"]["trial"] == "baseline/0"
    assert summary_of(data).winner.name == "baseline/0"
    best = {"top1": 0.91, "epoch": 2, "std_error": None, "confirmed": None}
    assert data["best"] == {"trial": "baseline/0", **best}


def test_a_mean_over_new_seeds_decides_who_is_expected_to_read_what(sweep_dir):
    trial(sweep_dir, "a", 0, [(1, 0.92)], "COMPLETE")
    trial(sweep_dir, "b", 0, [(1, 0.91)], "COMPLETE")
    for name, top1 in (("a", 0.88), ("b", 0.9)):
        trial(sweep_dir, name, 1, [(1, top1)], "COMPLETE", confirms=f"{name}/0")
    data = collect(sweep_dir)
    assert data["best"]["trial"] == data["on_new_clips"]["trial"] == "b/0"
    assert data["best"]["confirmed"] == {"mean": 0.9, "spread": None, "seeds": 1}
    assert summary_of(data).winner.name == "b/0"


def test_curves_are_in_full_in_the_record_and_short_on_the_page(sweep_dir):
    trial(sweep_dir, "a", 0, [(1, 0.90112345678)], "COMPLETE")
    data = collect(sweep_dir)
    assert data["trials"][0]["top1"] == [0.90112345678]
    assert '"top1":[0.901123]' in build_page(data)


def test_hours_are_those_of_the_storage_or_from_start_to_last_epoch(sweep_dir):
    folder = trial(sweep_dir, "a", 0, [(1, 0.9)], "COMPLETE")
    assert collect(sweep_dir)["trials"][0]["gpu_hours"] == 0.5
    assert (
        collect(sweep_dir, stored=StoredFacts(hours={"a/0": 0.7}))["trials"][0]["gpu_hours"] == 0.7
    )
    start = {"attempt": 1, "time": "2026-01-01T00:00:00+00:00"}
    append_line(folder / "starts.jsonl", json.dumps(start))
    line = Measurement(epoch=1, top1=0.9, seconds=900, time="2026-01-01T00:20:00+00:00").to_line()
    (folder / "measurements.jsonl").write_text(line)
    assert collect(sweep_dir)["trials"][0]["gpu_hours"] == round(2 / 3, 4)
    assert open_sweep(sweep_dir).columns("trials")["gpu_hours"] == [pytest.approx(2 / 3)]


def test_the_page_does_not_name_the_projects_folder(sweep_dir, tmp_path):
    inside, outside = f"{tmp_path}/work_dirs/start.pth", "/weights/start.pth"
    trial(sweep_dir, "a", 0, [(1, 0.9)], warm_start={"checkpoint": inside})
    trial(sweep_dir, "a", 1, [(1, 0.9)], warm_start={"checkpoint": outside})
    data = collect(sweep_dir)
    found = [one["config"]["(starting weights)"] for one in data["trials"]]
    assert found == ["work_dirs/start.pth", outside]
    assert str(tmp_path) not in build_page(data)


def test_without_a_complete_trial_there_is_no_best(sweep_dir):
    trial(sweep_dir, "a", 0, [(1, 0.92)], "PRUNED")
    assert collect(sweep_dir)["best"] is None


def test_the_ladder_follows_what_the_recipes_ended_with(sweep_dir, plan):
    stop = {"epoch": 1, "top1": 0.8669, "verdict": "prune", "rule": "epoch 1 floor"}
    trial(sweep_dir, "baseline", epochs=[(1, 0.8669)], state="PRUNED", verdicts=[stop])
    trial(sweep_dir, "lr-0.001", epochs=[(1, 0.886)])
    ladder = collect(sweep_dir, plan)["ladder"]
    assert ladder["path"] == ["baseline", "lr-0.001"]


def test_a_sweep_without_trials_is_a_page_of_its_plan(sweep_dir, plan):
    data = collect(sweep_dir, plan)
    assert data["trials"] == []
    assert "baseline" in [v["name"] for v in data["variants"]]
    build_page(data)


def test_interrupted_running_and_unknown_phases(sweep_dir):
    trial(sweep_dir, "a")
    folder = trial(sweep_dir, "b")
    write_json(folder / "outcome.json", {"state": None, "cause": "interrupted"})
    trial(sweep_dir, "c")
    data = collect(sweep_dir, stored=StoredFacts(phases={"c/0": "paused"}))
    assert [t["phase"] for t in data["trials"]] == ["running", "interrupted", "paused"]


def test_the_true_learning_rate_comes_from_the_caller_or_the_spec(sweep_dir):
    trial(sweep_dir, "a", lr_course=[0.003, 0.002])
    trial(sweep_dir, "b")
    data = collect(sweep_dir, lr_courses={"b": [0.1]})
    assert [v["lr"] for v in data["variants"]] == [[0.003, 0.002], [0.1]]


def test_one_closed_file_without_a_foreign_address(sweep_dir, tmp_path):
    trial(sweep_dir, "baseline", epochs=[(1, 0.88)])
    out = tmp_path / "new" / "c.html"
    page = build_page(collect(sweep_dir), out)
    assert out.read_text(encoding="utf-8") == page
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert set(re.findall(r"https?://[\w.]+", page)) == {"http://www.w3.org"}  # SVG's namespace
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "</script><img src=x>", "{{scripts}}", "&lt;b&gt;"]
)
def test_names_are_data_and_never_markup(sweep_dir, name):
    folder = trial(sweep_dir, "baseline", epochs=[(1, 0.88)])
    spec = json.loads((folder / "spec.json").read_text())
    write_json(folder / "spec.json", {**spec, "variant": name, "sweep": name})
    page = build_page(collect(sweep_dir))
    inside = re.search(r'id="data">(.*?)</script>', page, re.S)[1]
    assert json.loads(inside)["trials"][0]["variant"] == name
    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert page.count("<script>") == len(SCRIPTS)


def test_not_a_number_is_a_gap(sweep_dir):
    trial(sweep_dir, "baseline", epochs=[(1, float("nan"))])
    assert '"top1":[null]' in build_page(collect(sweep_dir))


def many(sweep_dir, trials, epochs):
    for number in range(trials):
        values = {"optim_wrapper.optimizer.lr": 0.001 + number * 1e-5, "weight": number % 7}
        curve = [(e, 0.88 + 0.0001 * ((e * 7 + number) % 300)) for e in range(1, epochs + 1)]
        trial(sweep_dir, "baseline", number, curve, "COMPLETE", values, overrides=values)


def test_fifty_trials_of_fifty_epochs_stay_under_a_megabyte(sweep_dir):
    many(sweep_dir, 50, 50)
    page = build_page(collect(sweep_dir))
    assert len(page.encode()) < 1_000_000


def test_a_page_of_a_few_trials_stays_under_half_a_megabyte(sweep_dir):
    many(sweep_dir, 4, 30)
    assert len(build_page(collect(sweep_dir)).encode()) < 500_000


@pytest.mark.slow
@pytest.mark.sample
def test_five_hundred_trials_build_in_three_seconds(sweep_dir):
    many(sweep_dir, 500, 50)
    before = time.process_time()
    build_page(collect(sweep_dir))
    assert time.process_time() - before < 3


def test_texts_have_their_chinese_form_and_names_stay():
    assert translate("Which differences are real", "zh") == "哪些差异是真实的"
    reason = "epoch 1: top-1 12.92 % is under the floor 25.00 %"
    assert translate(reason, "zh") == "第 1 轮：top-1 为 12.92 %，低于下限 25.00 %"
    assert translate(f"{reason}; my own words", "zh").endswith("；my own words")
    assert translate("lr-0.02 is complete, which ends the ladder", "zh").startswith(
        "lr-0.02 已完成"
    )
    assert translate(reason, "en") == reason


def test_the_bundled_library_is_the_one_named():
    digest = hashlib.sha256((PAGE / LIBRARY).read_bytes()).hexdigest()
    assert digest in (PAGE / "VENDORED.md").read_text()
    assert (PAGE / "echarts.LICENSE").exists()
