"""Which differences are real: compared with SciPy and statsmodels, and put into sentences."""

import array
import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.plan.verdict import standard_error
from pipeline.report.compare.compare_record import collect
from pipeline.report.stats.differences import differences
from pipeline.report.stats.readings import Reading, read_best, store_of
from pipeline.report.stats.significance import McNemar, chances, holm, pair
from pipeline.shared.files import append_line, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from recorded_sweep import record_sweep

TABLES = [
    (0, 1),
    (3, 9),
    (9, 3),
    (10, 10),
    (0, 40),
    (244, 310),
    (600, 401),
    (900, 1100),
    (5, 2000),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("first", "second"), TABLES)
def test_mcnemar_is_that_of_scipy_and_statsmodels(first: int, second: int) -> None:
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    found = McNemar(clips=16487, only_first=first, only_second=second)
    assert found.exact == (first + second <= 1000)
    if found.exact:
        exact = stats.binomtest(first, first + second, 0.5).pvalue
        assert found.p == pytest.approx(exact, rel=1e-9)
    table = [[9000, first], [second, 16487 - 9000 - first - second]]
    theirs = contingency.mcnemar(table, exact=found.exact, correction=True).pvalue
    assert found.p == pytest.approx(theirs, rel=1e-9, abs=1e-300)


def test_the_exact_test_and_the_large_one_agree_where_they_meet() -> None:
    exact = McNemar(clips=16487, only_first=530, only_second=470).p
    large = McNemar(clips=16487, only_first=531, only_second=470).p
    assert large == pytest.approx(exact, rel=0.1)


def test_the_standard_error_of_a_difference_is_that_of_the_paired_sample() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(500) < 0.9, rng.random(500) < 0.85
    bits = [int("".join("01"[one] for one in column.tolist()), 2) for column in (a, b)]
    found = pair(*bits, 500)
    off = a.astype(float) - b.astype(float)
    assert found.difference == pytest.approx(off.mean())
    assert found.std_error == pytest.approx(stats.sem(off, ddof=0))
    assert standard_error(a.mean(), 500) == pytest.approx(stats.sem(a, ddof=0))


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = [0.04, 0.001, 0.3, 0.02, 0.02, 1.0, 0.0]
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1].tolist())
    assert holm([]) == []


CLIPS = 400


def trial(root, name, right, *, ids="same", store="video", kept=True, clips=CLIPS, facts=None):
    """Write a trial that gets exactly the clips in `right` right at its best epoch, 2."""
    variant, number = name.split("/")
    folder = root / variant / number
    folder.mkdir(parents=True)
    spec = {"sweep": root.name, "variant": variant, "number": int(number), "metric": "acc"}
    write_json(folder / "spec.json", {**spec, "data": {"store": store}})
    write_json(folder / "facts.json", facts or {"val_clips": clips})
    top1 = len(right) / clips
    for epoch, value in enumerate((top1 - 0.1, top1), start=1):
        line = Measurement(epoch=epoch, top1=value).to_line()
        append_line(folder / "measurements.jsonl", line)
    run = RunDir(folder)
    run.predictions.mkdir()
    predicted = array.array("H", [1 if i in right else 0 for i in range(clips)])
    made = Predictions(2, "acc", top1, ids, predicted, array.array("H", [1] * clips))
    if kept:
        run.predictions_of(2).write_bytes(made.to_bytes())
    return folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    return folder


def between(root, a, b):
    data = collect(root)
    [found] = [d for d in data["differences"] if {d["a"], d["b"]} == {a, b}]
    return found


def test_a_real_difference_is_distinguished_from_chance(root) -> None:
    trial(root, "good/0", set(range(360)))
    trial(root, "poor/0", set(range(300)))
    trial(root, "equal/0", {*range(350), *range(360, 372)})
    real, chance = between(root, "good/0", "poor/0"), between(root, "good/0", "equal/0")
    assert (real["real"], real["only_a"], real["only_b"]) == (True, 60, 0)
    assert real["sentence"] == (
        "good/0 reads 15.00 ± 1.79 points above poor/0: 60 of 400 clips only the first gets "
        "right, 0 only the second; the difference is real (McNemar, p < 0.0001, corrected "
        "for 3 pairs)."
    )
    assert (chance["a"], chance["real"], chance["only_a"]) == ("equal/0", False, 12)
    assert chance["p"] == pytest.approx(stats.binomtest(10, 22).pvalue)
    assert "chance alone can make such a difference" in chance["sentence"]


def test_two_trials_that_are_right_on_the_same_clips(root) -> None:
    trial(root, "a/0", set(range(300)))
    trial(root, "b/0", set(range(300)))
    found = between(root, "a/0", "b/0")
    assert (found["p"], found["real"]) == (1.0, False)
    assert "right on exactly the same of 400 clips" in found["sentence"]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"ids": "other"}, "they were validated on different clips"),
        ({"store": "prepared"}, "different stores (video and prepared)"),
        ({"clips": 300}, "they were validated on 400 and 300 clips"),
        ({"store": "prepared", "kept": False}, "different stores (video and prepared)"),
    ],
)
def test_other_clips_or_stores_are_not_comparable(root, other, why) -> None:
    trial(root, "a/0", set(range(380)))
    trial(root, "b/0", set(range(200)), **other)
    found = between(root, "a/0", "b/0")
    assert (found["comparable"], found["real"], found["difference"]) == (False, None, None)
    assert found["sentence"].startswith("a/0 and b/0 are not comparable: ")
    assert why in found["sentence"]


def test_without_predictions_the_difference_has_an_error_and_no_verdict(root) -> None:
    trial(root, "a/0", set(range(360)))
    trial(
        root, "b/0", set(range(300)), kept=False, facts={"val_clips": 400, "no_predictions": "x"}
    )
    found = between(root, "a/0", "b/0")
    apart = math.hypot(
        stats.sem([1] * 360 + [0] * 40, ddof=0), stats.sem([1] * 3 + [0], ddof=0) / 10
    )
    assert (found["comparable"], found["real"]) == (True, None)
    assert found["std_error"] == pytest.approx(apart)
    assert "Not tested clip by clip: b/0 has no predictions (x)." in found["sentence"]


def test_an_unknown_number_of_clips_is_called_unknown(root) -> None:
    trial(root, "a/0", set(range(360)))
    trial(root, "b/0", set(range(300)), kept=False, facts={"other": 1})
    found = between(root, "a/0", "b/0")
    assert found["std_error"] is None and "standard error of that is unknown" in found["sentence"]
    assert {t["id"]: t["std_error"] for t in collect(root)["trials"]}["b/0"] is None


def test_damaged_or_foreign_predictions_are_named(root) -> None:
    trial(root, "a/0", set(range(360)))
    file = RunDir(trial(root, "b/0", set(range(300)))).predictions_of(2)
    file.write_bytes(file.read_bytes()[:40])
    assert "epoch_2.bin cannot be read" in between(root, "a/0", "b/0")["sentence"]
    file.write_bytes(RunDir(root / "a" / "0").predictions_of(2).read_bytes())
    assert "of another run than the measurement" in between(root, "a/0", "b/0")["sentence"]


def test_many_trials_are_compared_with_the_best_one_only(root) -> None:
    readings = []
    for number in range(30):
        folder = trial(root, f"v/{number}", set(range(200 + number)))
        readings.append(read_best(folder, f"v/{number}", TrialSpec()))
    found = differences(readings)
    assert len(found) == math.comb(24, 2) + 6
    assert {d["a"] for d in found if d["b"] in ("v/0", "v/5")} == {"v/29"}
    assert json.dumps(collect(root)["differences"])


def test_pure_chance_is_seldom_called_real() -> None:
    """Forty sweeps of eight equal trials: at most one in twenty sweeps has a wrong "real"."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(40):
        columns = rng.random((8, CLIPS)) < 0.8
        bits = [int("".join("01"[one] for one in column.tolist()), 2) for column in columns]
        found = [pair(a, b, CLIPS).p for a, b in itertools.combinations(bits, 2)]
        wrong += min(holm(found)) < 0.05
    assert wrong <= 5  # 2 expected; more than 5 in 40 has a chance of 1.4 %


def test_seeds_read_from_folders_are_those_of_the_storage(tmp_path: Path) -> None:
    folder = record_sweep(tmp_path / "runs" / "lab")
    found = collect(folder)["confirmation"]
    assert [(one["trial"], one["mean"]) for one in found["trials"]] == [
        ("lr_high/0", pytest.approx(0.915)),
        ("baseline/0", pytest.approx(0.86)),
    ]
    groups = [one["values"] for one in found["trials"]]
    assert found["chance_order"] == chances(groups, 1 / CLIPS)["order"]
    assert found["trials"][0]["spread"] == pytest.approx(np.std([0.91, 0.92], ddof=1))


def test_every_trial_is_compared_with_the_winner_however_many_there_are() -> None:
    readings = [
        Reading(
            trial=f"a/{at}",
            top1=1 - at / 100,
            clips=100,
            right=(1 << (100 - at)) - 1,
            ids=None,
            lacking="",
            metric=None,
            store=store_of(None),
        )
        for at in range(40)
    ]
    found = differences(readings, "a/30")
    pairs = {frozenset((one["a"], one["b"])) for one in found}
    assert len(pairs) == len(found) == 24 * 23 // 2 + 15 + 24
    assert all({f"a/{at}", "a/30"} in pairs for at in range(40) if at != 30)
    equal = differences([dataclasses.replace(one, top1=0.5) for one in readings[:3]], "a/2")
    assert [one["a"] for one in equal] == ["a/2", "a/2", "a/0"]
