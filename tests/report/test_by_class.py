"""A trial class by class: held to NumPy, to statsmodels and to the table a spreadsheet gets."""

import array
import csv
import io

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from pipeline.errors import InputError
from pipeline.report.stats.by_class import ReadTrial, by_class, class_csv, class_lines, class_tree
from pipeline.shared.predictions import Predictions

TREE = [0, 0, 1, 1, 2, 2]


def drawn(seed: int, accuracy: float = 0.7, ids: str = "x") -> ReadTrial:
    labels = np.random.default_rng(0).integers(0, 6, 600)
    rng = np.random.default_rng(seed)
    guess = np.where(rng.random(600) < accuracy, labels, rng.integers(0, 6, 600))
    columns = [array.array("H", one.tolist()) for one in (guess, labels)]
    top1 = float((guess == labels).mean())
    kept = Predictions(3, "m", top1, ids, *columns)
    return ReadTrial(trial=f"t/{seed}", kept=kept, coarse=TREE)


def test_each_class_has_its_share_of_right_clips() -> None:
    one = drawn(1)
    labels, guess = (np.array(c) for c in (one.kept.labels, one.kept.predicted))
    record = by_class(one)
    for row in record["classes"]:
        mine = labels == row["class"]
        assert row["clips"] == mine.sum()
        assert row["accuracy"] == pytest.approx((guess[mine] == row["class"]).mean())
    tree = np.array(TREE)
    coarse = np.average(
        [row["accuracy"] for row in record["coarse"]["classes"]],
        weights=[row["clips"] for row in record["coarse"]["classes"]],
    )
    assert coarse == pytest.approx((tree[guess] == tree[labels]).mean())


def test_confusions_are_counted_and_the_largest_come_first() -> None:
    one, other = drawn(1), drawn(2)
    record = by_class(one, other)
    for row in record["confusions"]:
        for trial, key in ((one, "clips"), (other, "against")):
            labels, guess = (np.array(c) for c in (trial.kept.labels, trial.kept.predicted))
            count = ((labels == row["true"]) & (guess == row["taken_for"])).sum()
            assert row[key] == count
    clips = [row["clips"] for row in record["confusions"]]
    assert clips == sorted(clips, reverse=True) and len(clips) == 10


def test_what_moved_is_tested_and_corrected_as_statsmodels_does() -> None:
    one, other = drawn(1, 0.9), drawn(2, 0.7)
    against = by_class(one, other)["against"]
    labels = np.array(one.kept.labels)
    mine, theirs = (np.array(t.kept.predicted) == labels for t in (one, other))
    p_values = []
    for row in against["classes"]:
        own = labels == row["class"]
        gained, lost = (mine & ~theirs & own).sum(), (theirs & ~mine & own).sum()
        assert (row["gained"], row["lost"]) == (gained, lost)
        p_values.append(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue)
    corrected = multipletests(p_values, method="holm")[1]
    assert [row["p"] for row in against["classes"]] == pytest.approx(corrected)
    assert against["gained"] == (mine & ~theirs).sum()


def test_the_csv_has_a_row_a_class_and_the_lines_name_all() -> None:
    record = by_class(drawn(1), drawn(2))
    rows = list(csv.DictReader(io.StringIO(class_csv(record))))
    assert [int(row["class"]) for row in rows] == list(range(6))
    first = record["classes"][0]
    assert float(rows[0]["accuracy"]) == first["accuracy"]
    assert "gained, lost, p" in class_lines(record)[1]


def test_trials_on_different_clips_are_not_compared() -> None:
    with pytest.raises(InputError, match="validated on different clips"):
        by_class(drawn(1), drawn(2, ids="y"))


def test_the_class_tree_is_read_from_a_config_of_either_form() -> None:
    for text in ("m = dict(h=dict(fine_to_coarse=[0, 1]))", "m = {'fine_to_coarse': [0, 1]}"):
        assert class_tree(text) == [0, 1]
    assert class_tree("model = dict(type='x')") is None
