"""Texts in another language: what the table has, and that English stays as it is."""

import re

import pytest

from pipeline.plan.judge import Rules, judge
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import with_error
from pipeline.report.words import say
from pipeline.shared.measurement import Measurement


@pytest.mark.parametrize(
    "top1",
    [
        (0.87,),
        (0.882,),
        (0.9,),
        (0.89, 0.89, 0.89, 0.89, 0.888),
        (0.89, 0.891, 0.89, 0.89, 0.892),
        (*(0.89, 0.893, 0.893, 0.893, 0.893), *[0.892] * 8),
        (0.885, 0.886),
    ],
)
def test_the_sentences_of_the_judge_have_chinese_words(
    plan: Sweep, top1: tuple[float, ...]
) -> None:
    measured = [Measurement(epoch=at, top1=value) for at, value in enumerate(top1, 1)]
    reason = with_error(judge(measured, Rules.of(plan.variants["baseline"])), 16_487).reason
    assert not re.search("[A-Za-z]{2,}", say(reason, "zh").replace("top-1", "")), reason


def test_english_stays_as_it_is() -> None:
    for text in ("a; b", "goal 91 (within two standard errors)", "epoch"):
        assert say(text, "en") == text


def test_what_the_table_lacks_stays_english() -> None:
    assert say("my own note; goal 91", "zh") == "my own note；目标 91"
