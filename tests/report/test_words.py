"""Texts in another language: what the table has, and that English stays as it is."""

import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from pipeline.plan.judge import Rules, judge
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import with_error
from pipeline.report.words import translate
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
    assert not re.search("[A-Za-z]{2,}", translate(reason, "zh").replace("top-1", "")), reason


class PageTexts(HTMLParser):
    """The texts of a page outside scripts, styles and commands."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in HIDDEN

    def handle_data(self, data: str) -> None:
        if not self._hidden and re.search("[A-Za-z]{2,}", data):
            self.found.append(data.strip())


HIDDEN = ("script", "style", "code", "title", "noscript")


def test_every_text_of_the_page_has_chinese_words() -> None:
    page = PageTexts()
    page.feed(resources.files("pipeline.report.compare").joinpath("static/page.html").read_text())
    texts = [text for text in page.found if not text.startswith("{{")]
    assert len(texts) > 30
    assert [text for text in texts if translate(text, "zh") == text] == []


@pytest.mark.parametrize(
    "text",
    [
        "a/0 reads 0.83 ± 3.38 points above b/1: 34 of 240 clips only the first gets right, 32 "
        "only the second; chance alone can make such a difference (McNemar, p = 0.9, corrected "
        "for 3 pairs).",
        "a/0 reads 60.83 ± 3.36 points above b/1: 150 of 240 clips only the first gets right, 4 "
        "only the second; the difference is real (McNemar, p < 0.0001, corrected for 3 pairs).",
        "a/0 reads 60.83 ± 3.36 points above b/1: 150 of 240 clips only the first gets right, 4 "
        "only the second; the difference is real (McNemar, p < 0.0001).",
        "a/0 read 90.2 %, expected on new clips 88.2 % (90 % interval 85.3 to 90.6): the best of "
        "500 readings of 400 clips is partly luck.",
        "a: which values mattered is unknown; it takes 10 complete trials, and there are 0.",
        "best 12.92 % in 1 epoch",
        "3 trials (1 running). No trial is complete; highest so far: a/0 with 12.92 % at epoch 1; "
        "57.08 points below the goal of 70.00 %.",
    ],
)
def test_sentences_of_the_page_have_chinese_words(text: str) -> None:
    said = translate(text, "zh").replace("McNemar", "").replace("running", "")
    assert not re.search("[A-Za-z]{2,}", said), said


def test_english_stays_as_it_is() -> None:
    for text in ("a; b", "goal 91 (within two standard errors)", "epoch"):
        assert translate(text, "en") == text


def test_what_the_table_lacks_stays_english() -> None:
    assert translate("my own note; goal 91", "zh") == "my own note；目标 91"
