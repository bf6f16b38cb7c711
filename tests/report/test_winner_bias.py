"""The winner's number without the luck of choosing: the bootstrap, its coverage, its sentences."""

import array
import dataclasses
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from pipeline.report.best.text import expected_of_winner
from pipeline.report.best.winner import Winner
from pipeline.report.compare.compare_record import collect
from pipeline.report.compare.page import build_page
from pipeline.report.stats.readings import Reading
from pipeline.report.stats.winner_bias import (
    CHOSEN_BY_MEAN,
    expected_on_new_clips,
    wilson,
    winner_record,
)
from pipeline.shared.files import append_line, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir

CLIPS = 400


def bits(right: np.ndarray) -> int:
    return int("".join("01"[one] for one in right.astype(int).tolist()), 2)


def reading(name: str, right: np.ndarray, /, **changed: object) -> Reading:
    made = Reading(
        trial=name,
        top1=float(right.mean()),
        clips=len(right),
        right=bits(right),
        ids="same",
        lacking="",
        metric="acc",
        store={"store": "video", "profile": None, "digest": None},
    )
    return dataclasses.replace(made, **changed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("hits", "count"), [(0, 30), (29, 32), (180, 200), (15000, 16487)])
def test_the_interval_is_wilsons_of_scipy_and_statsmodels(hits: int, count: int) -> None:
    theirs = stats.binomtest(hits, count).proportion_ci(0.9, method="wilson")
    assert wilson(hits / count, count) == pytest.approx(tuple(theirs), abs=1e-12)
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    again = proportion.proportion_confint(hits, count, alpha=0.1, method="wilson")
    assert wilson(hits / count, count) == pytest.approx(again, abs=1e-12)


def left_out_by_scipy(table: np.ndarray) -> np.ndarray:
    """Return the readings of the best of drawn clips on the others, by SciPy's resampling."""
    clips = table.shape[1]

    def read(drawn: np.ndarray) -> float:
        chosen = table[:, drawn].mean(axis=1).argmax()
        others = np.setdiff1d(np.arange(clips), drawn)
        return float(table[chosen][others].mean())

    done = stats.bootstrap(
        (np.arange(clips),), read, n_resamples=1000, vectorized=False, rng=1, method="percentile"
    )
    return done.bootstrap_distribution


def test_the_bootstrap_is_that_of_scipy() -> None:
    table = np.random.default_rng(4).random((6, 150)) < 0.8
    table = table[np.argsort(-table.mean(axis=1), kind="stable")]
    theirs = left_out_by_scipy(table)
    found = expected_on_new_clips([bits(row) for row in table], 150)
    assert found.mean == pytest.approx(theirs.mean(), abs=4 * theirs.std() / 1000**0.5 * 1.5)
    assert found == expected_on_new_clips([bits(row) for row in table], 150)


def test_equal_trials_are_expected_to_read_what_they_all_have() -> None:
    """Of twenty trials that are right on 80 % of all clips the best reads about 84 of 100."""
    table = np.random.default_rng(2).random((20, CLIPS)) < 0.8
    ranked = sorted((reading(f"v/{i}", row) for i, row in enumerate(table)), key=lambda r: -r.top1)
    found = winner_record(ranked[0], ranked[1:])
    assert found["read"] > 0.825 and found["expected"] == pytest.approx(0.8, abs=0.02)
    assert found["low"] < 0.8 < found["high"]


def test_the_sentence_names_both_numbers() -> None:
    right = np.arange(CLIPS) < 360
    found = winner_record(reading("a/0", right), [reading("b/0", np.arange(CLIPS) < 300)])
    assert found["sentence"] == (
        f"a/0 read 90.0 %, expected on new clips {100 * found['expected']:.1f} % (90 % interval "
        f"{100 * found['low']:.1f} to {100 * found['high']:.1f}): the best of 2 readings of 400 "
        "clips is partly luck."
    )


def test_a_trial_without_rivals_says_nothing() -> None:
    assert winner_record(reading("a/0", np.arange(CLIPS) < 360), []) is None


@pytest.mark.parametrize(
    ("own", "other", "why"),
    [
        ({"right": None, "lacking": "x"}, {}, "a/0 has no predictions (x)."),
        ({}, {"right": None, "lacking": "y"}, "on the same clips (b/0: y)."),
        ({}, {"ids": "z"}, "(they were validated on different clips)."),
    ],
)
def test_without_predictions_on_the_same_clips_it_says_why(own, other, why) -> None:
    right = np.arange(CLIPS) < 360
    found = winner_record(reading("a/0", right, **own), [reading("b/0", right, **other)])
    assert found["expected"] is None
    assert found["sentence"].startswith("What a/0 would read on new clips is unknown: ")
    assert found["sentence"].endswith(why)


def test_a_rival_that_cannot_be_compared_is_counted_out() -> None:
    right = np.arange(CLIPS) < 360
    others = [reading("b/0", right), reading("c/0", right, ids="other")]
    found = winner_record(reading("a/0", right), others)
    assert found["among"] == 2 and "1 more could not be compared" in found["sentence"]


def write(folder: Path, name: str, right: Collection[int], state: str = "COMPLETE") -> None:
    """Write a finished trial that gets exactly these clips right."""
    variant, number = name.split("/")
    run = RunDir(folder / name)
    run.predictions.mkdir(parents=True)
    spec = {"sweep": folder.name, "variant": variant, "number": int(number), "metric": "acc"}
    write_json(run.spec, {**spec, "data": {"store": "video"}})
    write_json(run.facts, {"val_clips": CLIPS})
    write_json(run.outcome, {"state": state})
    top1 = len(right) / CLIPS
    append_line(run.measurements, Measurement(epoch=1, top1=top1).to_line())
    predicted = array.array("H", [int(i in right) for i in range(CLIPS)])
    kept = Predictions(1, "acc", top1, "same", predicted, array.array("H", [1] * CLIPS))
    run.predictions_of(1).write_bytes(kept.to_bytes())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "tiny"
    write(folder, "a/0", range(340))
    write(folder, "b/0", range(60, 396))
    write(folder, "c/0", range(399), state="PRUNED")
    return folder


def test_the_page_tells_what_the_best_complete_trial_would_read(root: Path) -> None:
    data = collect(root)
    found = data["on_new_clips"]
    assert (found["trial"], found["among"], found["clips"]) == ("a/0", 2, CLIPS)
    assert found["low"] < found["expected"] < found["read"] == 0.85
    page = build_page(data)
    assert found["sentence"].split(" (")[0] in page and 'id="new-clips"' in page


def row(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, run_dir=f"runs/tiny/{name}")


@pytest.mark.parametrize(
    ("chosen", "confirmed", "why"),
    [
        (False, {}, ""),
        (True, {}, "it was chosen by hand."),
        (False, {"a/0": None}, f"it was {CHOSEN_BY_MEAN}."),
    ],
)
def test_the_export_tells_what_the_winner_would_read(root: Path, chosen, confirmed, why) -> None:
    rows = [row("a/0"), row("b/0")]
    winner = Winner(row=rows[0], chosen=chosen, eligible=True, others=[], confirmed=confirmed)
    project = SimpleNamespace(root=root.parents[1])
    found = expected_of_winner(project, winner, rows)
    assert (found["expected"] is None) == bool(why)
    assert found["sentence"].endswith(why)
    if not why:
        assert found == collect(root)["on_new_clips"]
    assert expected_of_winner(project, winner, rows[:1]) is None


def simulated(rng: np.random.Generator) -> tuple[list[Reading], list[float]]:
    """Return the readings of a sweep, best first, and what each trial would read on all clips.

    Some clips are harder than others for all trials alike.
    """
    trials, clips = int(rng.integers(2, 21)), int(rng.choice([127, 500, 2000]))
    skill = rng.normal(1.0, rng.choice([0.0, 0.1, 0.3]), trials)
    shared, own = rng.normal(size=clips), rng.normal(size=(trials, clips))
    right = skill[:, None] * 2**0.5 + shared + own > 0
    true = stats.norm.cdf(skill)
    order = np.argsort(-right.mean(axis=1), kind="stable")
    return [reading(f"v/{i}", right[i]) for i in order], [float(true[i]) for i in order]


@pytest.mark.slow
def test_the_coverage_of_the_manual() -> None:
    """Print the table of docs/honest-numbers.md."""
    rng, rows = np.random.default_rng(17), []
    for _ in range(200):
        ranked, true = simulated(rng)
        found = winner_record(ranked[0], ranked[1:])
        naive = wilson(found["read"], found["clips"])
        rows.append(
            (
                found["read"] - true[0],
                found["expected"] - true[0],
                naive[0] <= true[0] <= naive[1],
                found["low"] <= true[0] <= found["high"],
            )
        )
    read, expected, naive, covered = np.mean(rows, axis=0)
    print(
        f"reading {100 * read:+.2f} points off, in its interval {100 * naive:.0f} %; expected "
        f"{100 * expected:+.2f} points off, in its interval {100 * covered:.0f} %"
    )
    assert 0.85 <= covered <= 0.95
    assert abs(expected) < 0.003 < read
