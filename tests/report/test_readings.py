"""Trials of different stores or precision are reported as not comparable, in a sentence."""

import pytest

from pipeline.report.stats.readings import incomparable, same_store, shown_store, store_of

VIDEO = store_of({"store": "video", "profile": None, "digest": None, "root": "/data"})
FINE = store_of({"store": "prepared", "profile": "fine", "digest": "1a2b3c4d5e6f"})
OTHER = store_of({"store": "prepared", "profile": "fine", "digest": "99999999aaaa"})
UNKNOWN = store_of(None)


def test_a_store_is_named_by_kind_profile_and_digest():
    assert [shown_store(s) for s in (VIDEO, FINE)] == ["video", "prepared fine 1a2b3c4d"]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [(VIDEO, VIDEO, True), (VIDEO, FINE, False), (FINE, OTHER, False), (FINE, UNKNOWN, True)],
)
def test_only_known_differences_count(one, other, alike):
    assert same_store(one, other) is alike


def alike(*trials):
    """Return trials of a name and a store, all of the usual precision."""
    return [(*trial, None) for trial in trials]


def test_trials_on_different_stores_are_named():
    assert incomparable(alike(("baseline/0", VIDEO), ("a/0", VIDEO), ("b/0", UNKNOWN))) is None
    assert incomparable([]) is None
    assert incomparable(alike(("baseline/0", VIDEO), ("a/0", FINE), ("b/0", FINE))) == (
        "Not comparable, their samples came from different stores "
        "(video: baseline/0; prepared fine 1a2b3c4d: a/0, b/0)."
    )


def test_a_crowd_is_counted():
    sentence = incomparable(alike(("baseline/0", VIDEO), *((f"a/{n}", FINE) for n in range(9))))
    assert sentence is not None and "a/0, a/1, a/2 and 6 others" in sentence


def test_trials_in_different_precision_are_named_also_beside_other_stores():
    trials = [("baseline/0", VIDEO, None), ("baseline/1", FINE, "bf16"), ("a/0", FINE, "fp32")]
    sentence = str(incomparable(trials))
    assert "different stores (video: baseline/0; " in sentence
    assert sentence.endswith(
        "Not comparable, they were trained in different precision (fp32: baseline/0, a/0; "
        "bf16: baseline/1)."
    )
