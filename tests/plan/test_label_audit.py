"""Which reading of the labels predictions fit: faults are found, sound models are silent."""

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.plan.label_audit import audit
from pipeline.shared.predictions import Predictions


def column(values: Any) -> "array.array[int]":
    return array.array("H", np.asarray(values).astype(int).tolist())


def kept(predicted: Any, labels: Any, classes: int, **columns: Any) -> Predictions:
    further = {name: column(values) for name, values in columns.items()}
    return Predictions(1, "m", 0.0, "x", column(predicted), column(labels), classes, further)


def blurred(truth: Any, accuracy: float, classes: int, rng: Any) -> Any:
    guessed = rng.integers(0, classes, len(truth))
    return np.where(rng.random(len(truth)) < accuracy, truth, guessed)


def readings(found: Sequence[Any]) -> list[tuple[str, str]]:
    return [(one.branch, one.reading) for one in found]


@pytest.mark.parametrize("share", [0.71, 0.87, 1.0])
@pytest.mark.parametrize(("classes", "clips"), [(8, 800), (60, 600), (60, 16487)])
def test_labels_trained_one_too_low_are_found_per_branch(
    share: float, classes: int, clips: int
) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, classes, clips)
    lower = np.where(rng.random(clips) < share, np.maximum(labels - 1, 0), labels)
    rgb, pose = blurred(labels, 0.9, classes, rng), blurred(lower, 0.9, classes, rng)
    found = audit(kept(rgb, labels, classes, rgb=rgb, pose=pose))
    assert readings(found) == [("pose", "label - 1")]
    mine, theirs = (pose == labels).mean(), (pose == labels - 1).mean()
    assert (found[0].agrees, found[0].label_agrees) == (theirs, mine)
    assert found[0].sentence == (
        f"the pose branch agrees with label - 1 in {100 * theirs:.1f} % of {clips} clips, with "
        f"the label in {100 * mine:.1f} %"
    )


def test_labels_trained_one_too_high_are_found() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 60, 2000)
    given = blurred((labels + 1) % 60, 0.5, 60, rng)
    assert readings(audit(kept(given, labels, 60))) == [("", "label + 1")]


def test_another_order_of_the_classes_is_found_whole_and_in_part() -> None:
    rng = np.random.default_rng(3)
    labels, order = rng.integers(0, 60, 3000), rng.permutation(60)
    whole = audit(kept(blurred(order[labels], 0.8, 60, rng), labels, 60))
    swapped = np.arange(60)
    swapped[[7, 23, 41]] = [23, 41, 7]
    part = audit(kept(blurred(swapped[labels], 0.9, 60, rng), labels, 60))
    assert readings(whole) == readings(part) == [("", "another order of the classes")]
    assert part[0].detail == " (3 classes called by another's name: 7, 23, 41)"


def test_coarse_classes_of_another_grouping_are_found() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 60, 2000)
    config = np.minimum(labels // 8, 7)
    public = np.searchsorted([5, 11, 24, 32, 38, 48, 52], labels, side="right")
    fine, coarse = blurred(labels, 0.85, 60, rng), blurred(public, 0.9, 8, rng)
    columns = {"rgb": fine, "rgb_coarse": coarse, "true_coarse": config}
    (found,) = audit(kept(fine, labels, 60, **columns))
    assert found.branch == "rgb_coarse" and found.agrees > 0.85 > 0.75 > found.label_agrees
    assert "classes put under another coarse class: 5, 6, 7, 11" in found.sentence
    columns["rgb_coarse"] = blurred(config, 0.9, 8, rng)
    assert audit(kept(fine, labels, 60, **columns)) == []


def test_a_head_that_was_never_trained_is_no_mismatch() -> None:
    """It calls each class by one name too, but several classes by the same."""
    named = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels, names = rng.integers(0, 60, 1000), rng.integers(0, 60, 60)
        named += bool(audit(kept(blurred(names[labels], 0.95, 60, rng), labels, 60)))
    assert named <= 1


def test_a_model_that_says_one_class_is_no_mismatch() -> None:
    rng = np.random.default_rng(5)
    labels = rng.choice(8, 1000, p=[0.02, 0.5, *[0.08] * 6])
    assert audit(kept(np.zeros(1000), labels, 8)) == []
    assert audit(kept(np.full(1000, 2), labels, 8)) == []


def test_an_empty_or_tiny_validation_says_nothing() -> None:
    assert audit(kept([], [], 8)) == []
    assert audit(kept([0, 1, 2, 3], [1, 2, 3, 4], 8)) == []


def healthy(rng: Any) -> Predictions:
    """Return the validation of a sound model: any accuracy, classes, clips, preferences.

    The own class has the highest mean score, neighbours and chosen others up to 0.7 of it; then
    each class is preferred or not, up to a model that says one class only.
    """
    classes = int(rng.choice([2, 3, 5, 8, 10, 27, 52, 60]))
    clips = int(rng.choice([12, 20, 40, 130, 300, 1000, 5000]))
    frequent = rng.dirichlet(np.full(classes, rng.choice([0.5, 2, 50])))
    labels = rng.choice(classes, clips, p=frequent)
    groups = max(1, min(classes // 2, 8))
    parents = np.minimum(np.arange(classes) * groups // classes, groups - 1)
    streams, columns = [], {"true_coarse": parents[labels]}
    for name in ("rgb", "pose"):
        scores = healthy_branch(rng, labels, classes)
        coarse = healthy_branch(rng, parents[labels], groups)
        streams.append(scores)
        columns.update({name: scores.argmax(axis=1), f"{name}_coarse": coarse.argmax(axis=1)})
    return kept(sum(streams).argmax(axis=1), labels, classes, **columns)


def healthy_branch(rng: Any, labels: Any, classes: int) -> Any:
    signal = rng.choice([0.0, 0.2, 0.6, 2.0, 4.0, 8.0])
    likeness = np.minimum(rng.normal(0, rng.choice([0, 0.3, 1]), (classes, classes)), 0.7)
    for one in np.nonzero(rng.random(classes - 1) < rng.choice([0, 0.5]))[0]:
        likeness[one, one + 1] = likeness[one + 1, one] = 0.7
    np.fill_diagonal(likeness, 1)
    preference = rng.normal(0, rng.choice([0, 0.5, 2, 5]), classes)
    noise = rng.gumbel(size=(len(labels), classes))
    return signal * likeness[labels] + preference + noise


def false_alarms(seeds: range) -> list[int]:
    return [seed for seed in seeds if audit(healthy(np.random.default_rng(seed)))]


def test_healthy_validations_are_silent() -> None:
    assert false_alarms(range(100)) == []


@pytest.mark.slow
def test_at_most_one_healthy_validation_in_a_hundred_is_called_mismatched() -> None:
    assert len(false_alarms(range(500))) <= 5
    assert len(false_alarms(range(500, 5000))) <= 45
