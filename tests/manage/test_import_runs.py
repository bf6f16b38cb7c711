"""Earlier runs as evidence: logs that MMEngine itself wrote, put beside a sweep's trials."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from pipeline.study.db.urls import sqlite_url

ROOT = Path(__file__).resolve().parents[2]
LR = "optim_wrapper.optimizer.lr"
VARIANTS = """\
  baseline:
    set: {train_cfg.max_epochs: 4, optim_wrapper.optimizer.lr: 1e-2}
    space: {optim_wrapper.optimizer.lr: {low: 1e-3, high: 1e-1, log: true}}
  fast: {like: baseline, set: {optim_wrapper.optimizer.lr: 5e-2}}
"""
#: An earlier run, as its owner made it: MMEngine alone, nothing of ours.
TRAIN = """\
import sys, json
from mmengine.config import Config
from mmengine.runner import Runner
for name, changes in json.loads(sys.argv[1]).items():
    config = Config.fromfile("jobs/tiny.py")
    config.merge_from_dict(changes)
    config.work_dir = name
    config.experiment_name = name.replace("/", "-")
    Runner.from_cfg(config).train()
"""
EARLIER = {
    "work_dirs/slower": {LR: 0.02},
    "work_dirs/fast": {LR: 0.05},
    "work_dirs/wide": {"model.width": 8},
    "work_dirs/far": {LR: 0.5},
}


@pytest.fixture(scope="module")
def place(module_project):
    """A project with four earlier runs, nothing launched."""
    module_project.sweep(VARIANTS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN, json.dumps(EARLIER)],
        cwd=module_project.root,
        env={**module_project.env(), "PYTHONPATH": "jobs"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return module_project


@pytest.fixture(scope="module")
def imported(place):
    done = place.call("sweep", "import", *EARLIER)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def scalars(place, name):
    [file] = (place.root / name).glob("*/vis_data/scalars.json")
    return file


def study(place, variant):
    storage = sqlite_url(place.root / "runs" / "pcan.db")
    return optuna.load_study(study_name=f"tiny/{variant}", storage=storage)


def test_a_run_goes_to_the_variant_whose_recipe_it_is(place, imported) -> None:
    assert [line.partition(" -> ")[2].partition(":")[0] for line in imported] == [
        "baseline/1",
        "fast/1",
        "imported/0",
        "imported/1",
    ]
    assert f"searched values: {LR} 0.02" in imported[0]
    assert "baseline is nearest, but model.width is 8" in imported[2]
    assert f"{LR} = 0.5 is outside the searched range" in imported[3]


def test_its_curve_and_its_searched_values_are_optunas(place, imported) -> None:
    trial = study(place, "baseline").trials[1]
    lines = [json.loads(t) for t in scalars(place, "work_dirs/slower").read_text().splitlines()]
    values = {t["step"]: t["acc/RGBPose_1:1_top1"] for t in lines if "acc/rgb_top1" in t}
    assert trial.state is optuna.trial.TrialState.COMPLETE and trial.params == {LR: 0.02}
    assert trial.intermediate_values == pytest.approx(values)
    assert trial.value == pytest.approx(max(values.values()))
    measured = (place.folder("baseline/1") / "measurements.jsonl").read_text().splitlines()
    assert [json.loads(m)["lr"] for m in measured][0] == pytest.approx(0.02)
    logged = json.loads((place.folder("baseline/1") / "logged_config.json").read_text())
    assert logged["config"]["optim_wrapper"]["optimizer"]["lr"] == 0.02


def test_the_same_log_counts_once_by_whatever_name(place, imported) -> None:
    file = scalars(place, "work_dirs/slower")
    shutil.copy(file, place.root / "copy.json")
    [text] = (place.root / "work_dirs" / "slower").glob("*/*.log")
    again = place.call("sweep", "import", "work_dirs/slower", "copy.json", str(text))
    assert again.returncode == 0, again.stderr
    first, second, third = again.stdout.splitlines()
    assert first == "work_dirs/slower: imported already, as baseline/1."
    assert second == "copy.json: imported already, as baseline/1."
    assert third.endswith("same run as baseline/1, printed with other precision; skipped.")
    assert len(study(place, "baseline").trials) == 2


def test_status_and_compare_show_it_as_imported(place, imported) -> None:
    trials = place.status()
    assert trials["baseline/1"]["imported"]["log"] == "slower"
    assert (trials["baseline/1"]["state"], trials["baseline/1"]["epochs"]) == ("COMPLETE", 4)
    assert "imported from wide" in place.call("sweep", "status", "tiny").stdout
    data = json.loads(place.call("sweep", "compare", "tiny", "--json").stdout)
    shown = {t["id"]: t for t in data["trials"]}
    assert shown["imported/0"]["imported"] == "wide" and not shown["imported/0"]["recipe"]
    assert shown["fast/1"]["config"][LR] == 0.05
    reported = [d["sentence"] for d in data["differences"] if d["comparable"]]
    assert reported and all(
        "has no predictions (it was imported from a log)" in t for t in reported
    )


def test_best_never_exports_it_and_says_why(place, imported) -> None:
    none = place.call("sweep", "best", "tiny")
    assert none.returncode == 3 and "has no complete trial to export" in none.stderr
    assert "its weights are not here, so it cannot be exported" in none.stderr
    named = place.call("sweep", "best", "tiny", "--trial", "fast/1")
    assert named.returncode == 3
    assert "fast/1 was imported from a log (fast)" in named.stderr
    assert "pcan sweep launch tiny --variant fast" in named.stderr
    assert not (place.root / "exports").exists()


def test_an_import_that_was_cut_off_is_made_anew(place, imported) -> None:
    before = place.status()
    whole = place.folder("imported/1")
    half = shutil.copytree(whole, whole.with_name("7"))  # killed before the storage knew it
    spec = json.loads((half / "spec.json").read_text())
    other = {**spec["imported"], "sha256": "of another log"}
    (half / "spec.json").write_text(json.dumps({**spec, "number": 7, "imported": other}))
    mine = shutil.copytree(half, whole.with_name("8"))
    table = place.root / "short.csv"
    table.write_text("epoch,top1\n1,0.25\n2,0.5\n")
    own = hashlib.sha256(table.read_bytes()).hexdigest()
    spec = {**spec, "number": 8, "imported": {**other, "sha256": own}}
    (mine / "spec.json").write_text(json.dumps(spec))
    done = place.call("sweep", "import", "short.csv", "--metric", "top1")
    assert done.returncode == 0 and " -> imported/2: " in done.stdout, done.stderr
    assert half.exists() and not mine.exists()
    shutil.rmtree(half)
    assert set(place.status()) - set(before) == {"imported/2"}


def test_a_log_without_a_config(place, imported) -> None:
    table = place.root / "old.csv"
    table.write_text("epoch,top1,lr\n1,0.5,0.01\n2,0.75,0.008\n")
    refused = place.call("sweep", "import", "old.csv")
    assert refused.returncode == 2
    assert 'no metric "acc/RGBPose_1:1_top1"; its validations have: top1.' in refused.stderr
    assert "If one of them is the same thing, name it: --metric top1" in refused.stderr
    reported = place.call("sweep", "import", "old.csv", "--metric", "top1")
    assert "no variant's recipe (no config lies beside it)" in reported.stdout
    table.write_text("epoch,top1,lr\n1,0.5,0.01\n2,0.625,0.008\n3,nan,0.008\n")
    named = place.call("sweep", "import", "old.csv", "--metric", "top1", "--variant", "fast")
    assert f"searched values: {LR} 0.05" in named.stdout, named.stderr
    wrong = place.call("sweep", "import", "work_dirs/wide", "--variant", "fast")
    assert wrong.returncode == 2 and "is not of fast: " in wrong.stderr


def test_a_trial_of_the_sweep_itself_is_refused(place, imported) -> None:
    done = place.call("sweep", "import", "runs/tiny/baseline/1")
    assert done.returncode == 2 and "which the sweep knows already" in done.stderr
    assert os.listdir(place.folder("baseline/1"))


def test_a_log_that_cannot_be_read_loses_none_of_the_others(place, imported) -> None:
    (place.root / "other.csv").write_text("epoch,top1\n1,0.5\n2,0.75\n")
    done = place.call("sweep", "import", "none.log", "other.csv", "--metric", "top1")
    assert done.returncode == 2 and "There is no log none.log" in done.stderr
    assert done.stdout.startswith("other.csv -> ")
